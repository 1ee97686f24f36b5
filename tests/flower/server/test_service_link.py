"""What a ServerApp finds of the aggregator's service, and what it tells it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any, cast

import grpc
import pytest

from smpc.v1 import local_pb2 as pb
from smpc.v1 import local_pb2_grpc as pb_grpc
from smpcfl.base.files import socket_path
from smpcfl.base.ledger_file import open_ledger
from smpcfl.base.log_events import LogEvent, about, during
from smpcfl.base.repeats import MOST
from smpcfl.base.state import State
from smpcfl.flower.server import probe
from smpcfl.flower.server.service_link import (
    REGISTRY_VARIABLE,
    STATE_VARIABLE,
    Server,
    _Forward,
)
from smpcfl.net import certificates
from smpcfl.net.certificates import Role
from smpcfl.protocol.errors import LocalError, Reason, RemoteError
from smpcfl.protocol.signing import AGGREGATOR
from smpcfl.protocol.ticket import NORMAL, SEEDED
from support.enrolled import Deployment
from support.fake_runs import a_record


class Rounds(pb_grpc.RoundsServicer):
    """The aggregator's service on its socket in `state`."""

    def __init__(self, state: Path) -> None:
        self.events: list[pb.RunEvent] = []
        self.server = grpc.server(futures.ThreadPoolExecutor(1))
        pb_grpc.add_RoundsServicer_to_server(self, self.server)
        self.server.add_insecure_port(f"unix:{socket_path(state, 'rounds')}")
        self.server.start()

    def Record(self, request: pb.RunEvent, context: Any) -> pb.ReportReply:
        self.events.append(request)
        return pb.ReportReply()

    @property
    def kinds(self) -> list[str | None]:
        return [event.WhichOneof("event") for event in self.events]


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return Deployment(tmp_path / "deployment")


@pytest.fixture
def state(tmp_path: Path, deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As the service leaves it."""
    folder = tmp_path / "s"
    folder.mkdir()
    certificates.save(folder, deployment.identity(Role.AGGREGATOR, AGGREGATOR))
    State(folder).ca.write_bytes(certificates.pem(deployment.ca))
    monkeypatch.setenv(STATE_VARIABLE, str(folder))
    monkeypatch.setenv(REGISTRY_VARIABLE, "registry.example:1")
    return folder


@pytest.fixture
def rounds(state: Path) -> Iterator[Rounds]:
    service = Rounds(state)
    yield service
    service.server.stop(None).wait()


@pytest.mark.sockets
def test_it_has_the_services_identity_and_ledger(state: Path) -> None:
    server = Server.load(SEEDED, "1")
    assert server.own is not None
    assert (server.own.role, server.own.name) == (Role.AGGREGATOR, AGGREGATOR)
    assert server.registry == "registry.example:1"
    assert State(state).ledger.exists()
    assert Server.load(SEEDED, "1").run != server.run, "each run has a number of its own"


@pytest.mark.sockets
def test_in_normal_no_certificate_is_needed(state: Path) -> None:
    State(state).certificate.unlink()
    assert Server.load(NORMAL, "1").own is None


def test_without_the_service_it_says_how_to_start_it(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    State(state).certificate.unlink()
    with pytest.raises(LocalError) as error:
        Server.load(SEEDED, "1")
    assert str(error.value) == (f"no valid certificate in {state}: start `smpcfl aggregator` again")
    monkeypatch.delenv(STATE_VARIABLE)
    with pytest.raises(LocalError) as error:
        Server.load(SEEDED, "1")
    assert str(error.value) == (
        f"{STATE_VARIABLE} is not set: start the SuperLink with `smpcfl aggregator`"
    )


@pytest.mark.sockets
def test_what_it_logs_refuses_and_begins_reaches_the_service(
    rounds: Rounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Half a character in what pytest catches would be too much for its parallel runs.
    monkeypatch.setattr(logging.getLogger("smpcfl"), "propagate", False)
    server = Server.load(SEEDED, "1")
    rounds.events.clear()
    server.announce(5, 2)
    server.refused(RemoteError(Reason.BAD_HEADER, peer="a"))
    logging.getLogger("smpcfl.flower").warning("half a %s: \udce9", "character")
    logging.getLogger("smpcfl.flower").debug("not this")
    assert rounds.kinds == ["start", "refusal", "line"]
    start, refusal, line = rounds.events
    assert (start.start.run, start.start.rounds, start.start.done) == (server.run, 5, 2)
    assert refusal.refusal.reason == "bad_header"
    assert (line.line.level, line.line.text) == (logging.WARNING, "half a character: ?")


@pytest.mark.sockets
def test_a_line_is_forwarded_once_however_often_a_strategy_starts(rounds: Rounds) -> None:
    for _ in range(3):
        Server.load(SEEDED, "1")
    rounds.events.clear()
    logging.getLogger("smpcfl.flower").info("once")
    assert [event.line.text for event in rounds.events] == ["once"]


@pytest.mark.sockets
def test_a_service_that_is_down_costs_its_news_and_nothing_else(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Server.load(SEEDED, "1").announce(5, 0)
    assert "the aggregator's service does not take events" in capsys.readouterr().out


@pytest.mark.sockets
def test_peers_are_probed_with_the_certificate_that_was_renewed(
    state: Path, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[bytes] = []

    async def instances(
        own: Any, registry: str, folder: Path, peers: Any, calls: Any
    ) -> dict[str, bytes]:
        shown.append(certificates.der(own.certificate))
        return dict.fromkeys(peers, b"1")

    monkeypatch.setattr(probe, "instances", instances)
    server = Server.load(SEEDED, "1")
    assert server.probe(["a"]) == {"a": b"1"}
    certificates.save(state, deployment.identity(Role.AGGREGATOR, AGGREGATOR))
    server.probe(["a"])
    State(state).certificate.unlink()
    server.probe(["a"])
    first, second, third = shown
    assert first != second
    assert second == third, "while there is none, the one before stands"


# -- what it prints ------------------------------------------------------------------------------------------


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server(tmp_path, None, "", open_ledger(tmp_path / "ledger"))
    cast(Any, made).reported = []
    monkeypatch.setattr(Server, "report", lambda self, event: self.reported.append(event))
    return made


def reported(server: Server) -> list[pb.RunEvent]:
    return cast(Any, server).reported  # type: ignore[no-any-return]


def test_a_round_is_a_line(bare: Server, capsys: pytest.CaptureFixture[str]) -> None:
    bare.announce(3, 0)
    bare.record(a_record(run=1, round=2, contributors=5, accuracy=0.5))
    assert capsys.readouterr().out.startswith("round 2/3  seeded    survivors 5/5  accuracy 0.500")
    assert [event.WhichOneof("event") for event in reported(bare)] == ["start", "record"]


@pytest.mark.parametrize(
    ("level", "text", "shown"),
    [
        (logging.INFO, "waiting for peers: 2 of 5", "waiting for peers: 2 of 5\n"),
        (logging.WARNING, "round 1 is void", "warning: round 1 is void\n"),
        (logging.WARNING, "x\x1b[2J\r refused", "warning: x?[2J? refused\n"),
        (logging.INFO, "two\nlines", "two\nlines\n"),
    ],
)
def test_the_log_goes_to_both(
    level: int, text: str, shown: str, bare: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    _Forward(bare).emit(logging.LogRecord("smpcfl", level, "", 0, text, None, None))
    assert capsys.readouterr().out == shown
    assert (reported(bare)[0].line.level, reported(bare)[0].line.text) == (level, text)


def test_the_service_hears_what_a_line_is_about(bare: Server) -> None:
    record = logging.LogRecord("smpcfl", logging.WARNING, "", 0, "gone", None, None)
    record.__dict__ |= about(LogEvent.PEER_AWAY, peer="peer-b")
    with during(run=2**62, round=3):
        _Forward(bare).emit(record)
    line = reported(bare)[0].line
    assert (line.event, line.run, line.round, line.peer) == ("peer_away", 2**62, 3, "peer-b")


def test_a_line_that_repeats_is_held_back(bare: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """A peer that answers nonsense time and again fills neither the terminal nor the service's log."""
    forward = _Forward(bare)
    for number in range(1000):
        forward.emit(logging.LogRecord("smpcfl", 30, "", 0, "bad: %s", (number,), None))
    assert len(capsys.readouterr().out.splitlines()) == len(reported(bare)) == MOST
