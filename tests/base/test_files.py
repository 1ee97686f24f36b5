"""A state folder that cannot take what a service keeps is said before anything starts."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from smpcfl.base import files
from smpcfl.base.state import State
from smpcfl.flower.server import serial
from smpcfl.flower.server.serial import next_serial
from support.disk import small_disk


def test_a_disk_that_is_full_or_small_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk(tmp_path / "disk", monkeypatch) as disk:
        files.check(disk.folder, 1)
        with pytest.raises(
            files.StorageError, match=r"at least \d+ MiB are needed: make room, or .* --state"
        ):
            files.check(disk.folder, 2**60)
        disk.fill()
        with pytest.raises(files.StorageError, match=f"{disk.folder}: No space left on device"):
            files.check(disk.folder, 1)


def test_a_folder_that_cannot_be_made_is_named() -> None:
    with pytest.raises(files.StorageError, match="cannot write to the state folder /proc/no"):
        files.check(Path("/proc/no"), 1)


def test_a_full_disk_voids_no_round_for_want_of_a_serial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = State(tmp_path).serial
    first = next_serial(path)

    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    later = time.time() + 1
    monkeypatch.setattr(time, "time", lambda: later)
    monkeypatch.setattr(serial, "write_private", no_room)
    assert next_serial(path) > first
    assert "is not kept" in caplog.text
