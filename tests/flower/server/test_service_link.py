"""What a ServerApp of ours prints, for `flwr log` and `smpcfl run`, and tells the aggregator's service."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, cast

import pytest

from smpc.v1 import local_pb2 as pb
from smpcfl.base.ledger_file import open_ledger
from smpcfl.flower.server.service_link import Server, _Forward
from support.fake_runs import a_record


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server(tmp_path, None, "", open_ledger(tmp_path / "ledger"))
    cast(Any, made).told = []
    monkeypatch.setattr(Server, "tell", lambda self, event: self.told.append(event))
    return made


def told(server: Server) -> list[pb.RunEvent]:
    return cast(Any, server).told  # type: ignore[no-any-return]


def test_a_round_is_a_line(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.announce(3, 0)
    server.record(a_record(run=1, round=2, contributors=5, accuracy=0.5))
    assert capsys.readouterr().out.startswith("round 2/3  seeded    survivors 5/5  accuracy 0.500")
    assert [event.WhichOneof("event") for event in told(server)] == ["start", "record"]


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
    level: int, text: str, shown: str, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    _Forward(server).emit(logging.LogRecord("smpcfl", level, "", 0, text, None, None))
    assert capsys.readouterr().out == shown
    assert (told(server)[0].line.level, told(server)[0].line.text) == (level, text)
