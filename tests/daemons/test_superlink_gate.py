"""What the SuperLink's port lets in, with Flower's own application behind it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import uvicorn
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.common.constant import (
    FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE,
    NOOP_FLWR_AID,
    TIMESTAMP_HEADER,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
from flwr.supercore.date import now
from flwr.supercore.primitives.asymmetric import sign_message
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE
from flwr.superlink import extensions
from flwr.superlink.main import create_app
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from smpc.v1 import node_pb2 as pb
from smpc.v1 import registry_pb2
from smpcfl.base.state import State
from smpcfl.daemons import fleet_calls, superlink_gate
from smpcfl.daemons.node_key import PATH
from smpcfl.net import certificates
from smpcfl.net.certificates import Role
from smpcfl.net.node_proof import node_key_bytes
from smpcfl.protocol.signing import signer
from support.enrolled import Deployment

MIB = 1 << 20
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
        State(self.state).ca.write_bytes(certificates.pem(self.deployment.ca))
        monkeypatch.setenv("SMPCFL_AGGREGATOR_STATE", str(self.state))
        monkeypatch.setattr(extensions, "get_middleware", extensions.get_middleware)
        monkeypatch.setattr(superlink_gate.uvicorn.config, "create_ssl_context", None)
        monkeypatch.setattr(
            superlink_gate.uvicorn.config, "HTTP_PROTOCOLS", {"auto": "", "h11": ""}
        )
        superlink_gate.install(["flower-superlink", "--host", "0.0.0.0"])
        self.app = create_app()
        self.app.state.enable_supernode_auth = True

    async def post(
        self,
        path: str,
        body: bytes | AsyncIterator[bytes] = b"",
        headers: dict[str, str] | None = None,
        *,
        client: tuple[str, int] = ELSEWHERE,
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
            "signature": signer(own)(node_key_bytes(public_pem(key))),
            **other,
        }
        return pb.NodeKey(**given).SerializeToString()

    def revoke(self, *names: str) -> None:
        roster = registry_pb2.Roster(version=1, revoked=names)
        State(self.state).roster.write_bytes(roster.SerializeToString())

    def nodes(self) -> dict[str, bytes]:
        state: Any = self.app.state.linkstate_factory.state()
        found = state.get_node_info(owner_aids=[NOOP_FLWR_AID])
        return {node.name: node.public_key for node in found if not node.unregistered_at}

    async def reaches_flower(self, key: ec.EllipticCurvePrivateKey) -> bool:
        """Whether a Fleet call of this key passes the gate; Flower then misses its media type."""
        headers = {**signed_headers(key), "content-type": ""}
        reply = await self.post("/v1/fleet/pull-messages", headers=headers)
        assert reply.status_code in (403, 415), reply.text
        return reply.status_code == 415


def signed_headers(
    key: ec.EllipticCurvePrivateKey, age_s: float = 1.0, signed_by: Any = None
) -> dict[str, str]:
    """As Flower's SuperNode signs a call."""
    time = (now() - timedelta(seconds=age_s)).isoformat()
    signature = sign_message(signed_by or key, time.encode())
    return {
        FLEET_HTTP_PUBLIC_KEY_HEADER: b64encode(public_pem(key)).decode(),
        FLEET_HTTP_SIGNATURE_HEADER: b64encode(signature).decode(),
        TIMESTAMP_HEADER: time,
        "content-type": PROTOBUF_MEDIA_TYPE,
    }


class Body:
    """A request's body in pieces of a MiB that counts how many were taken."""

    def __init__(self, pieces: int) -> None:
        self._pieces = pieces
        self.taken = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(self._pieces):
            self.taken += 1
            yield bytes(MIB)


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
    key = certificates.new_key()
    assert not await superlink.reaches_flower(key)
    assert (await superlink.post(PATH, superlink.node_key("peer-a", key))).status_code == 204
    assert superlink.nodes() == {"peer-a": public_pem(key)}
    assert await superlink.reaches_flower(key)
    assert not await superlink.reaches_flower(certificates.new_key())


async def test_a_machines_own_address_is_local_only_if_the_superlink_listens_on_it_alone(
    superlink: SuperLink,
) -> None:
    path, own = "/v1/control/list-runs", ("10.0.0.1", 40000)
    assert (await superlink.post(path, client=own)).status_code == 403
    superlink_gate.install(["flower-superlink", "--host", "10.0.0.1"])
    superlink.app = create_app()
    assert "own machine" not in (await superlink.post(path, client=own)).text


async def test_nobody_is_believed_about_where_they_call_from(
    superlink: SuperLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uvicorn would be told by this variable to believe it, around the gate."""
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    superlink_gate.install(["flower-superlink", "--host", "0.0.0.0"])
    believed = uvicorn.Config(create_app()).forwarded_allow_ips
    transport = httpx.ASGITransport(
        cast(Any, ProxyHeadersMiddleware(cast(Any, create_app()), believed or "")),
        client=ELSEWHERE,
    )
    async with httpx.AsyncClient(transport=transport, base_url="http://10.0.0.1") as http:
        claimed = {"X-Forwarded-For": "127.0.0.1"}
        reply = await http.post("/v1/control/list-runs", headers=claimed)
    assert reply.status_code == 403
    assert "own machine" in reply.text


async def test_nobody_takes_the_node_key_of_another_peer(superlink: SuperLink) -> None:
    key = certificates.new_key()
    await superlink.post(PATH, superlink.node_key("peer-a", key))
    reply = await superlink.post(PATH, superlink.node_key("peer-b", key))
    assert (reply.status_code, reply.text) == (403, "another peer's node has this key")
    assert superlink.nodes() == {"peer-a": public_pem(key)}


async def test_a_peer_that_starts_again_has_one_node(superlink: SuperLink) -> None:
    first, second, other = (certificates.new_key() for _ in range(3))
    for name, key in (("peer-a", first), ("peer-b", other), ("peer-a", second)):
        assert (await superlink.post(PATH, superlink.node_key(name, key))).status_code == 204
    assert superlink.nodes() == {"peer-a": public_pem(second), "peer-b": public_pem(other)}
    assert not await superlink.reaches_flower(first)


async def test_keys_that_no_peer_has_signed_for_are_refused(
    superlink: SuperLink, tmp_path: Path
) -> None:
    key = certificates.new_key()
    (tmp_path / "other").mkdir()
    foreign = Deployment(tmp_path / "other").certificate(Role.PEER, "peer-a")
    aggregators = superlink.deployment.certificate(Role.AGGREGATOR, "aggregator")
    nonsense = signer(superlink.deployment.key("peer-a"))(node_key_bytes(b"x"))
    attempts = {
        b"\xff\xff": "malformed",
        superlink.node_key("peer-a", key, certificate=foreign): "not a certificate",
        superlink.node_key("peer-a", key, certificate=b""): "not a certificate",
        superlink.node_key("peer-a", key, certificate=aggregators): "expected peer",
        superlink.node_key("peer-a", key, public_key=b"x"): "signature",
        superlink.node_key("peer-a", key, public_key=b"x", signature=nonsense): "not a public key",
        superlink.node_key(
            "peer-a", key, public_key=public_pem(certificates.new_key())
        ): "signature",
        superlink.node_key("peer-a", key, signature=bytes(64)): "signature",
    }
    for body, reason in attempts.items():
        reply = await superlink.post(PATH, body)
        assert reply.status_code == 403, body
        assert reason in reply.text, (reason, reply.text)
    assert (await superlink.post(PATH, bytes(1 << 20))).status_code == 413
    assert superlink.nodes() == {}


async def test_a_revoked_peer_is_out_at_once(superlink: SuperLink) -> None:
    key = certificates.new_key()
    await superlink.post(PATH, superlink.node_key("peer-a", key))
    superlink.revoke("peer-b")
    assert await superlink.reaches_flower(key)
    superlink.revoke("peer-a", "peer-b")
    assert not await superlink.reaches_flower(key)
    reply = await superlink.post(PATH, superlink.node_key("peer-a", certificates.new_key()))
    assert (reply.status_code, "revoked" in reply.text) == (403, True)


async def test_nodes_from_before_a_restart_are_known_by_their_names(superlink: SuperLink) -> None:
    key = certificates.new_key()
    await superlink.post(PATH, superlink.node_key("peer-a", key))
    restarted = create_app  # a gate that has seen nothing, on the same database
    state = superlink.app.state.linkstate_factory
    superlink.app = restarted()
    superlink.app.state.linkstate_factory = state
    assert await superlink.reaches_flower(key)
    superlink.revoke("peer-a")
    assert not await superlink.reaches_flower(key)


async def known_key(superlink: SuperLink) -> ec.EllipticCurvePrivateKey:
    key = certificates.new_key()
    assert (await superlink.post(PATH, superlink.node_key("peer-a", key))).status_code == 204
    return key


async def test_a_known_key_without_its_signature_has_none_of_its_body_read(
    superlink: SuperLink,
) -> None:
    key = await known_key(superlink)
    good = signed_headers(key)
    attempts = [
        {k: v for k, v in good.items() if k != FLEET_HTTP_SIGNATURE_HEADER},
        {k: v for k, v in good.items() if k != TIMESTAMP_HEADER},
        signed_headers(key, signed_by=certificates.new_key()),
        signed_headers(key, age_s=310.0),
        signed_headers(key, age_s=-10.0),
        {**good, TIMESTAMP_HEADER: now().isoformat()},
        {**good, TIMESTAMP_HEADER: "2026-01-01T00:00:00"},
        {**good, TIMESTAMP_HEADER: "now"},
        {**good, FLEET_HTTP_SIGNATURE_HEADER: "?"},
        {**good, FLEET_HTTP_SIGNATURE_HEADER: "A" * 4096},
    ]
    for headers in attempts:
        body = Body(3)
        reply = await superlink.post("/v1/fleet/push-object", aiter(body), headers)
        assert (reply.status_code, body.taken) == (401, 0), headers
        assert reply.json() == {"detail": "Invalid SuperNode authentication"}
        assert reply.headers["connection"] == "close"


async def test_a_signed_call_is_flowers_own_to_answer(superlink: SuperLink) -> None:
    key = await known_key(superlink)
    state: Any = superlink.app.state.linkstate_factory.state()
    node = state.get_node_id_by_public_key(public_pem(key))
    body = SendNodeHeartbeatRequest(node=Node(node_id=node), heartbeat_interval=30.0)
    for age_s in (-4.0, 1.0, 300.0):
        reply = await superlink.post(
            "/v1/fleet/send-node-heartbeat", body.SerializeToString(), signed_headers(key, age_s)
        )
        assert reply.status_code == 200, reply.text


@pytest.mark.parametrize("length", [fleet_calls.LARGEST_BODY + 1, 400 * MIB, 10**30])
async def test_a_body_that_says_it_is_too_long_is_not_read(
    superlink: SuperLink, length: int
) -> None:
    key, body = await known_key(superlink), Body(3)
    headers = {**signed_headers(key), "content-length": str(length)}
    reply = await superlink.post("/v1/fleet/push-object", aiter(body), headers)
    assert (reply.status_code, body.taken) == (413, 0)
    assert reply.headers["connection"] == "close"
    assert str(fleet_calls.LARGEST_BODY) in reply.text


@pytest.mark.parametrize("announced", [{}, {"content-length": "5"}])
async def test_a_body_that_does_not_say_so_is_cut_off(
    superlink: SuperLink, announced: dict[str, str]
) -> None:
    key, body = await known_key(superlink), Body(400)
    headers = {**signed_headers(key), **announced}
    reply = await superlink.post("/v1/fleet/push-object", aiter(body), headers)
    assert reply.status_code == 413
    assert body.taken == fleet_calls.LARGEST_BODY // MIB + 1


async def test_a_chunk_of_an_array_and_a_body_at_the_bound_are_let_through(
    superlink: SuperLink,
) -> None:
    assert fleet_calls.LARGEST_BODY > 2 * FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE
    key, body = await known_key(superlink), Body(fleet_calls.LARGEST_BODY // MIB)
    reply = await superlink.post("/v1/fleet/push-object", aiter(body), signed_headers(key))
    assert body.taken == fleet_calls.LARGEST_BODY // MIB
    assert reply.status_code == 400, "Flower read it, and it is no message"


async def test_the_parser_that_bounds_headers_is_taken(superlink: SuperLink) -> None:
    superlink_gate.uvicorn.config.HTTP_PROTOCOLS.update(auto="unbounded", h11="bounded")
    superlink_gate.install(["flower-superlink", "--host", "0.0.0.0"])
    assert superlink_gate.uvicorn.config.HTTP_PROTOCOLS["auto"] == "bounded"
