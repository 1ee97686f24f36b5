"""The highest ticket serial that a peer accepted: below it, and at it, no ticket is ever taken again."""

from __future__ import annotations

from pathlib import Path

from ..base.files import read_number, write_private


class SerialStore:
    """The highest serial ever accepted, on disk before anything is signed for it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.highest = read_number(path)

    def accept(self, serial: int) -> None:
        write_private(self._path, str(serial).encode())
        self.highest = serial
