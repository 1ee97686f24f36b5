"""What `smpcfl status` shows at the aggregator and at a peer, from a registry on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from smpc.v1 import registry_pb2 as pb
from smpc.v1 import registry_pb2_grpc as pb_grpc
from smpcfl.base.config import Settings
from smpcfl.base.state import State
from smpcfl.cli import status
from smpcfl.net import certificates, rpc
from smpcfl.net.certificates import Role
from smpcfl.protocol.errors import LocalError
from smpcfl.protocol.signing import AGGREGATOR
from smpcfl.reports.record import group_lines
from support.enrolled import Deployment
from support.fake_runs import a_record
from support.reported import GROUPED

HOST = "127.0.0.1"
RECORD = a_record(round=3, contributors=5, withstood=1, accuracy=0.9, loss=0.3)


@dataclass
class Registry(pb_grpc.RegistryServicer):
    deployment: Deployment
    folder: Path
    address: str = ""

    async def Lookup(self, request: pb.LookupRequest, context: Any) -> pb.Roster:
        certificate = self.deployment.certificate(Role.PEER, "peer-a")
        entries = [
            pb.Entry(peer="peer-a", address="a:9300", index=4, mdns=True, certificate=certificate),
            pb.Entry(peer="peer-b", address="b:9300", index=0, certificate=b"none"),
        ]
        return pb.Roster(version=1, entries=entries)

    def settings(self, role: Role, name: str) -> Settings:
        """Of the service `name`, with its state folder as the service left it."""
        state = self.folder / name
        certificates.save(state, self.deployment.identity(role, name))
        State(state).ca.write_bytes(certificates.pem(self.deployment.ca))
        return Settings(state=state, join=self.folder / "join", registry=self.address)


@pytest.fixture
async def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Registry]:
    monkeypatch.setenv("COLUMNS", "200")
    deployment = Deployment(tmp_path / "deployment")
    found = Registry(deployment, tmp_path)
    server = rpc.new_server()
    pb_grpc.add_RegistryServicer_to_server(found, server)
    own = deployment.authority.own_identity([])
    port = rpc.bind(server, HOST, 0, own.server_credentials(), "port")
    found.address = f"{HOST}:{port}"
    await server.start()
    yield found
    await server.stop(0)


@pytest.mark.sockets
async def test_the_aggregator_sees_roster_round_and_guarantee(
    registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = registry.settings(Role.AGGREGATOR, AGGREGATOR)
    State(settings.state).records.write_text(RECORD.to_json() + "\n")
    assert await status.show(settings) == 0
    shown = capsys.readouterr().out
    (line,) = (line for line in shown.splitlines() if line.startswith("│ peer-a"))
    key = registry.deployment.key("peer-a").public_key()
    assert line.strip("│ ").replace(" ", "").split("│") == [
        *("peer-a", "a:9300", "4", "yes"),
        certificates.fingerprint(key),
    ]
    (line,) = (line for line in shown.splitlines() if line.startswith("│ peer-b"))
    assert "no " in line
    assert "round 3  seeded    survivors 5/5  accuracy 0.900" in shown
    assert "in force: an aggregator and 1 of the 5 peers together learn the sum only" in shown


@pytest.mark.sockets
async def test_the_aggregator_sees_void_groups_and_who_is_suspected(
    registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = registry.settings(Role.AGGREGATOR, AGGREGATOR)
    State(settings.state).records.write_text(GROUPED.to_json() + "\n")
    assert await status.show(settings) == 0
    shown = capsys.readouterr().out
    assert "  groups 1/2  suspected 1  " in shown
    assert "\n".join(group_lines(GROUPED)) in shown


@pytest.mark.sockets
async def test_before_a_round_the_aggregator_says_so(
    registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await status.show(registry.settings(Role.AGGREGATOR, AGGREGATOR)) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == ["no round yet", "no secure round yet"]


@pytest.mark.sockets
async def test_in_normal_there_is_nothing_in_force(
    registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = registry.settings(Role.AGGREGATOR, AGGREGATOR)
    plain = replace(RECORD, mode="normal", withstood=None)
    State(settings.state).records.write_text(plain.to_json() + "\n")
    assert await status.show(settings) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "no secure round yet"


@pytest.mark.sockets
async def test_a_peer_whose_service_is_down_still_sees_the_roster(
    registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await status.show(registry.settings(Role.PEER, "peer-a")) == 0
    shown = capsys.readouterr().out
    assert "b:9300" in shown
    assert shown.splitlines()[-1] == "the peer here does not run"


@pytest.mark.sockets
async def test_without_a_registry_it_says_which_option_to_give(registry: Registry) -> None:
    registry.address = f"{HOST}:1"
    with pytest.raises(
        LocalError, match=rf"no registry at {HOST}:1 .*: give its address with --reg"
    ):
        await status.show(registry.settings(Role.PEER, "peer-a"))


async def test_without_a_certificate_it_says_where_to_run_it(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path, join=tmp_path / "join")
    with pytest.raises(LocalError, match=r"no certificate in .* or give --state"):
        await status.show(settings)
