"""Uploads set aside: they come back to the byte, leave no file behind, and lose nothing on a full disk."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from smpcfl.base.files import AGGREGATOR_BYTES
from smpcfl.flower.server import set_aside
from smpcfl.flower.server.set_aside import SetAside

VECTORS = {4: b"four" * 100_000, 0: b"", 17: bytes(range(256)) * 300}


def test_what_is_set_aside_comes_back_and_leaves_no_file(tmp_path: Path) -> None:
    aside = SetAside(tmp_path)
    for index, vector in VECTORS.items():
        aside[index] = memoryview(vector)
    assert {index: aside[index] for index in (17, 4, 0)} == VECTORS
    assert not list(tmp_path.iterdir())
    aside.__exit__()


class FullDisk:
    """A file on a disk with so much room: it writes what fits, as the system does."""

    def __init__(self, room: int) -> None:
        self.data, self.at, self.room = bytearray(room), 0, room

    def seek(self, place: int) -> None:
        self.at = place

    def write(self, data: memoryview) -> int:
        piece = data[: max(self.room - self.at, 0)]
        self.data[self.at : self.at + len(piece)] = piece
        return len(piece)

    def truncate(self, length: int) -> None:
        self.data[length:] = bytes(len(self.data) - length)

    def read(self, length: int) -> bytes:
        return bytes(self.data[self.at : self.at + length])


def test_what_the_disk_has_no_room_for_stays_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(set_aside, "TemporaryFile", lambda **_: FullDisk(410_000))
    aside = SetAside(tmp_path)
    with caplog.at_level(logging.WARNING):
        for index, vector in VECTORS.items():
            aside[index] = memoryview(vector)
    assert {index: aside[index] for index in VECTORS} == VECTORS
    assert caplog.messages == [
        f"uploads of this round stay in memory: {tmp_path}: No space left on device; make room"
    ]


def test_room_is_left_for_flowers_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    usage = SimpleNamespace(free=AGGREGATOR_BYTES + 100)
    monkeypatch.setattr(set_aside.shutil, "disk_usage", lambda folder: usage)
    with SetAside(tmp_path) as aside:
        aside[0], aside[1] = bytes(100), bytes(101)
        assert (aside[0], aside[1]) == (bytes(100), bytes(101))
    assert len(caplog.messages) == 1


def test_without_a_folder_all_stay_in_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    aside = SetAside(tmp_path / "gone")
    aside[1] = b"one"
    assert aside[1] == b"one"
    assert "No such file" in caplog.text
    aside.__exit__()
