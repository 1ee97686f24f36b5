"""A disk that is full: a real tiny one where this user may mount it, else one that says so."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class SmallDisk:
    """`folder` is on it. A process that is not root gets ENOSPC from every flush instead."""

    def __init__(self, folder: Path, real: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.real = real
        self._monkeypatch = monkeypatch
        self._filler = folder / "filler"

    def fill(self) -> None:
        if not self.real:
            self._monkeypatch.setattr(os, "fsync", _no_room)
            return
        with self._filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass

    def make_room(self) -> None:
        if self.real:
            self._filler.unlink(missing_ok=True)
        else:
            self._monkeypatch.undo()


def _no_room(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def small_disk(
    folder: Path, monkeypatch: pytest.MonkeyPatch, size: str = "1m"
) -> Iterator[SmallDisk]:
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        real = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        real = False
    try:
        yield SmallDisk(folder, real, monkeypatch)
    finally:
        if real:
            # Lazily: a ledger on it may still be open.
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
