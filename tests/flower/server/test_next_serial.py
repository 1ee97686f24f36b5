"""Ticket serials rise, whatever the clock does and whatever the disk takes."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from smpcfl.base.state import State
from smpcfl.flower.server import next_serial as next_serial_module
from smpcfl.flower.server.next_serial import next_serial


def test_a_serial_is_the_clocks_and_is_kept_before_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 5000.5)
    path = State(tmp_path).serial
    assert next_serial(path) == 5_000_500
    assert path.read_text() == "5000500"


@pytest.mark.parametrize("now_s", [5000.0, 4000.0])
def test_a_clock_that_stands_or_goes_back_gives_the_next_number(
    now_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = State(tmp_path).serial
    path.write_text("5000000")
    monkeypatch.setattr(time, "time", lambda: now_s)
    assert [next_serial(path) for _ in range(3)] == [5_000_001, 5_000_002, 5_000_003]


@pytest.mark.sockets
def test_a_full_disk_voids_no_round_for_want_of_a_serial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = State(tmp_path).serial
    first = next_serial(path)

    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    later = time.time() + 1
    monkeypatch.setattr(time, "time", lambda: later)
    monkeypatch.setattr(next_serial_module, "write_private", no_room)
    assert next_serial(path) > first
    assert "is not kept" in caplog.text
