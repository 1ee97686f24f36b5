"""What `smpcfl status` shows at the aggregator and at a peer, from a registry on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from smpc.v1 import registry_pb2 as pb
from smpc.v1 import registry_pb2_grpc as pb_grpc
from smpcfl.base.config import Settings
from smpcfl.base.state import State
from smpcfl.cli import status
from smpcfl.net import certificates, rpc
from smpcfl.net.certificates import Role
from smpcfl.protocol.errors import LocalError
from smpcfl.protocol.guarantee import guarantee
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
    away: bool = False
    protocol: int = 0  # of the aggregator

    def __post_init__(self) -> None:
        self.asked = asyncio.Event()
        certificate = self.deployment.certificate(Role.PEER, "peer-a")
        self.entries = [
            pb.Entry(
                peer="peer-a",
                address="a:9300",
                index=4,
                mdns=True,
                certificate=certificate,
                software="0.1.0",
                protocol=2,
            ),
            pb.Entry(peer="peer-b", address="b:9300", index=0, certificate=b"none"),
        ]

    async def Lookup(self, request: pb.LookupRequest, context: Any) -> pb.Roster:
        self.asked.set()
        if self.away:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        return pb.Roster(
            version=1,
            entries=self.entries,
            aggregator_software="0.2.0",
            aggregator_protocol=self.protocol,
        )

    async def is_asked_again(self) -> None:
        """And what came of the time before is shown."""
        for _ in range(2):
            self.asked.clear()
            await asyncio.wait_for(self.asked.wait(), 30.0)

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


# -- 80 columns ---------------------------------------------------------------------------------------------


@pytest.mark.sockets
@pytest.mark.parametrize("long", [False, True])
async def test_the_roster_fits_80_columns(
    long: bool,
    registry: Registry,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    if long:
        registry.entries[1].peer, registry.entries[1].address = "b" * 42, "host." * 20 + "x:9300"
    assert await status.show(registry.settings(Role.PEER, "peer-a")) == 0
    shown = capsys.readouterr().out.splitlines()[:-1]
    assert max(map(len, shown)) <= 80
    (line,) = (line for line in shown if line.startswith("│ peer-a"))
    fingerprint = certificates.fingerprint(registry.deployment.key("peer-a").public_key())
    assert f"{fingerprint[:16]}…" in line
    assert "a:9300" in line


@pytest.mark.sockets
async def test_what_a_peer_calls_itself_neither_colours_nor_drives_the_terminal(
    registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.entries[1].address = "[bold]b\x1b[2J[/bold]:9300"
    assert await status.show(registry.settings(Role.PEER, "peer-a")) == 0
    assert "[bold]b?[2J[/bold]:9300" in capsys.readouterr().out


# -- JSON ---------------------------------------------------------------------------------------------------


@pytest.mark.sockets
async def test_who_speaks_another_protocol_than_the_aggregator_is_named(
    registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    for entry, protocol in zip(registry.entries, (3, 0), strict=True):
        entry.software, entry.protocol = "0.3.0", protocol
    settings = registry.settings(Role.PEER, "peer-a")
    assert await status.show(settings) == 0
    assert "left out" not in capsys.readouterr().out, "the aggregator has not told"
    registry.protocol = 2
    assert await status.show(settings) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "left out, as they speak another protocol than the aggregator (smpcfl 0.2.0, protocol 2):"
        " peer-a (smpcfl 0.3.0, protocol 3)"
    )
    assert await status.show(settings, as_json=True) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["aggregator"] == {"software": "0.2.0", "protocol": 2}
    assert [row["protocol"] for row in shown["roster"]] == [3, None]


@pytest.mark.sockets
async def test_json_has_all_of_it(registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    settings = registry.settings(Role.AGGREGATOR, AGGREGATOR)
    grouped = replace(GROUPED, withstood=1)
    State(settings.state).records.write_text(f"{RECORD.to_json()}\n{grouped.to_json()}\n")
    assert await status.show(settings, as_json=True) == 0
    shown = json.loads(capsys.readouterr().out)
    problem = shown["roster"][1].pop("problem")
    assert isinstance(problem, str)
    assert shown == {
        "role": "aggregator",
        "name": AGGREGATOR,
        "registry": registry.address,
        "roster": [
            {
                "peer": "peer-a",
                "address": "a:9300",
                "data_slice": 4,
                "seen": ["registry", "mdns"],
                "fingerprint": certificates.fingerprint(
                    registry.deployment.key("peer-a").public_key()
                ),
                "problem": None,
                "software": "0.1.0",
                "protocol": 2,
            },
            {
                "peer": "peer-b",
                "address": "b:9300",
                "data_slice": 0,
                "seen": ["registry"],
                "fingerprint": None,
                "software": None,
                "protocol": None,
            },
        ],
        "last_round": json.loads(grouped.to_json()),
        "guarantee": guarantee(1, grouped.cohort, grouped.mode),
        "no_guarantee": None,
        "aggregator": {"software": "0.2.0", "protocol": None},
    }
    assert {"groups", "suspected", "lost"} <= shown["last_round"].keys()


@pytest.mark.sockets
async def test_json_of_a_peer_has_no_rounds(
    registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await status.show(registry.settings(Role.PEER, "peer-a"), as_json=True) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["role"], shown["name"], shown["last_round"]) == ("peer", "peer-a", None)
    assert (shown["guarantee"], shown["no_guarantee"]) == (None, "the peer here does not run")


# -- watched ------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def watched(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, **options: bool
) -> AsyncIterator[None]:
    monkeypatch.setattr(status, "EVERY_S", 0.0)
    watching = asyncio.create_task(status.watch(settings, **options))
    try:
        yield
    finally:
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching


@pytest.mark.sockets
async def test_without_a_terminal_each_change_is_a_line(
    registry: Registry, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = registry.settings(Role.AGGREGATOR, AGGREGATOR)
    async with watched(settings, monkeypatch):
        await registry.is_asked_again()
        await registry.is_asked_again()
        first = capsys.readouterr().out.splitlines()
        registry.entries[0].address = "elsewhere:9300"
        del registry.entries[1]
        await registry.is_asked_again()
        State(settings.state).records.write_text(RECORD.to_json() + "\n")
        await registry.is_asked_again()
        then = capsys.readouterr().out.splitlines()
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in first + then)
    assert [line[9:] for line in first][::2] == [
        "peer-a is at a:9300, data slice 4",
        "no secure round yet",
    ]
    assert first[1][9:].startswith("peer-b is at b:9300, data slice 0, not seen by mDNS: ")
    assert [line[9:] for line in then][:2] == [
        "peer-a is at elsewhere:9300, data slice 4",
        "peer-b has left the roster",
    ]
    assert then[2][9:].startswith("round 3  seeded    survivors 5/5")
    assert then[3][9:].startswith("in force: an aggregator and 1 of the 5 peers")
    assert len(then) == 4


@pytest.mark.sockets
async def test_a_registry_that_is_away_is_said_once_and_asked_again(
    registry: Registry, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watched(registry.settings(Role.PEER, "peer-a"), monkeypatch, as_json=True):
        await registry.is_asked_again()
        registry.away = True
        await registry.is_asked_again()
        await registry.is_asked_again()
        registry.away = False
        del registry.entries[1]
        await registry.is_asked_again()
    printed = capsys.readouterr()
    (said,) = printed.err.splitlines()
    assert said.startswith(f"smpcfl status: no registry at {registry.address} (away)")
    rosters = [json.loads(line)["roster"] for line in printed.out.splitlines()]
    assert [len(roster) for roster in rosters] == [2, 1]


@pytest.mark.sockets
async def test_on_a_terminal_the_screen_is_redrawn(
    registry: Registry, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    async with watched(registry.settings(Role.PEER, "peer-a"), monkeypatch):
        await registry.is_asked_again()
        registry.away = True
        await registry.is_asked_again()
        await registry.is_asked_again()
    shown = capsys.readouterr().out
    assert shown.count("peer-b") > 1
    assert "no registry at" in shown.rpartition("peer-b")[2]
    assert "\x1b[?25h" in shown, "the cursor is back"


@pytest.mark.sockets
@pytest.mark.parametrize("as_json", [False, True])
async def test_the_first_look_has_to_work(as_json: bool, registry: Registry) -> None:
    registry.address = f"{HOST}:1"
    with pytest.raises(LocalError, match="no registry"):
        await status.watch(registry.settings(Role.PEER, "peer-a"), as_json=as_json)


@pytest.mark.commands
async def test_ctrl_c_ends_it_without_a_word(registry: Registry) -> None:
    settings = registry.settings(Role.PEER, "peer-a")
    given = [f"--state={settings.state}", f"--registry={registry.address}"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "smpcfl", "status", "--watch", *given),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert b"peer-a is at a:9300" in await process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = await process.communicate()
    assert (process.returncode, errors) == (130, b"")
