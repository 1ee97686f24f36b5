"""What the SuperLink's port lets in, with Flower's own application behind it."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.common.constant import NOOP_FLWR_AID
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER
from flwr.superlink import extensions
from flwr.superlink.main import create_app

from smpc.v1 import node_pb2 as pb
from smpc.v1 import registry_pb2
from smpcfl import identity
from smpcfl.aggregator import gate
from smpcfl.identity import Role
from smpcfl.peer.node import PATH, signed
from smpcfl.protocol.signing import signer
from support.enrolled import Deployment

ELSEWHERE, HERE = ("10.0.0.7", 40000), ("127.0.0.1", 40000)


def public_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


class SuperLink:
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.state = folder / "aggregator"
        self.state.mkdir()
        self.deployment = Deployment(folder)
        (self.state / "ca.pem").write_bytes(identity.pem(self.deployment.ca))
        monkeypatch.setenv("SMPCFL_AGGREGATOR_STATE", str(self.state))
        monkeypatch.setattr(extensions, "get_middleware", extensions.get_middleware)
        monkeypatch.setattr(gate.uvicorn.config, "create_ssl_context", None)
        gate.install()
        self.app = create_app()
        self.app.state.enable_supernode_auth = True

    async def post(
        self, path: str, body: bytes = b"", *, client: tuple[str, int] = ELSEWHERE, **headers: str
    ) -> httpx.Response:
        transport = httpx.ASGITransport(self.app, client=client)
        async with httpx.AsyncClient(transport=transport, base_url="http://10.0.0.1") as http:
            return await http.post(path, content=body, headers=headers)

    def node_key(self, name: str, key: ec.EllipticCurvePrivateKey, **other: bytes) -> bytes:
        """What peer `name` posts to have `key` known as its node's."""
        certificate = self.deployment.certificate(Role.PEER, name)
        own = self.deployment.key(name)
        given = {
            "certificate": certificate,
            "public_key": public_pem(key),
            "signature": signer(own)(signed(public_pem(key))),
            **other,
        }
        return pb.NodeKey(**given).SerializeToString()

    def revoke(self, *names: str) -> None:
        roster = registry_pb2.Roster(version=1, revoked=names)
        (self.state / "roster.bin").write_bytes(roster.SerializeToString())

    def nodes(self) -> dict[str, bytes]:
        state: Any = self.app.state.linkstate_factory.state()
        found = state.get_node_info(owner_aids=[NOOP_FLWR_AID])
        return {node.name: node.public_key for node in found if not node.unregistered_at}

    async def reaches_flower(self, key: ec.EllipticCurvePrivateKey) -> bool:
        """Whether a Fleet call of this key passes the gate, after which Flower looks at its signature."""
        header = {FLEET_HTTP_PUBLIC_KEY_HEADER: b64encode(public_pem(key)).decode()}
        reply = await self.post("/v1/fleet/pull-messages", **header)
        return "no peer's" not in reply.text


@pytest.fixture
def superlink(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SuperLink:
    return SuperLink(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    "path",
    ["/v1/control/start-run", "/v1/control/register-node", "/v1/runtime/pull-app-inputs", "/docs"],
)
async def test_only_the_fleet_api_is_open_to_the_network(superlink: SuperLink, path: str) -> None:
    reply = await superlink.post(path)
    assert (reply.status_code, reply.text) == (403, "only on the aggregator's own machine")
    assert (await superlink.post(path, client=HERE)).text != reply.text


@pytest.mark.parametrize("path", ["/v1/fleet/../control/start-run", "//v1/control/start-run"])
async def test_no_spelling_of_a_path_goes_round_it(superlink: SuperLink, path: str) -> None:
    assert (await superlink.post(path)).status_code == 403


async def test_a_node_counts_once_a_peer_has_signed_for_its_key(superlink: SuperLink) -> None:
    key = identity.new_key()
    assert not await superlink.reaches_flower(key)
    assert (await superlink.post(PATH, superlink.node_key("peer-a", key))).status_code == 204
    assert superlink.nodes() == {"peer-a": public_pem(key)}
    assert await superlink.reaches_flower(key)
    assert not await superlink.reaches_flower(identity.new_key())


async def test_a_peer_that_starts_again_has_one_node(superlink: SuperLink) -> None:
    first, second, other = (identity.new_key() for _ in range(3))
    for name, key in (("peer-a", first), ("peer-b", other), ("peer-a", second)):
        assert (await superlink.post(PATH, superlink.node_key(name, key))).status_code == 204
    assert superlink.nodes() == {"peer-a": public_pem(second), "peer-b": public_pem(other)}
    assert not await superlink.reaches_flower(first)


async def test_keys_that_no_peer_has_signed_for_are_refused(
    superlink: SuperLink, tmp_path: Path
) -> None:
    key = identity.new_key()
    (tmp_path / "other").mkdir()
    foreign = Deployment(tmp_path / "other").certificate(Role.PEER, "peer-a")
    aggregators = superlink.deployment.certificate(Role.AGGREGATOR, "aggregator")
    attempts = {
        b"\xff\xff": "malformed",
        superlink.node_key("peer-a", key, certificate=foreign): "not a certificate",
        superlink.node_key("peer-a", key, certificate=b""): "not a certificate",
        superlink.node_key("peer-a", key, certificate=aggregators): "no peer",
        superlink.node_key("peer-a", key, public_key=b"x"): "not a public key",
        superlink.node_key("peer-a", key, public_key=public_pem(identity.new_key())): "signature",
        superlink.node_key("peer-a", key, signature=bytes(64)): "signature",
    }
    for body, reason in attempts.items():
        reply = await superlink.post(PATH, body)
        assert reply.status_code == 403, body
        assert reason in reply.text, (reason, reply.text)
    assert (await superlink.post(PATH, bytes(1 << 20))).status_code == 413
    assert superlink.nodes() == {}


async def test_a_revoked_peer_is_out_at_once(superlink: SuperLink) -> None:
    key = identity.new_key()
    await superlink.post(PATH, superlink.node_key("peer-a", key))
    superlink.revoke("peer-b")
    assert await superlink.reaches_flower(key)
    superlink.revoke("peer-a", "peer-b")
    assert not await superlink.reaches_flower(key)
    reply = await superlink.post(PATH, superlink.node_key("peer-a", identity.new_key()))
    assert (reply.status_code, "revoked" in reply.text) == (403, True)


async def test_nodes_from_before_a_restart_are_known_by_their_names(superlink: SuperLink) -> None:
    key = identity.new_key()
    await superlink.post(PATH, superlink.node_key("peer-a", key))
    restarted = create_app  # a gate that has seen nothing, on the same database
    state = superlink.app.state.linkstate_factory
    superlink.app = restarted()
    superlink.app.state.linkstate_factory = state
    assert await superlink.reaches_flower(key)
    superlink.revoke("peer-a")
    assert not await superlink.reaches_flower(key)
