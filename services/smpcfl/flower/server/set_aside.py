"""Uploads that are summed already, on disk: hardly any is ever wanted again."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from ...base.files import AGGREGATOR_BYTES
from ...base.log_events import LogEvent, about
from ...protocol.ring import Raw

log = logging.getLogger("smpcfl.flower")


class SetAside:
    """By index, as AggregatorRound wants it. What `folder` has no room for stays in memory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._places: dict[int, tuple[int, int]] = {}
        self._end = 0
        self._in_memory: dict[int, bytes] = {}
        self._file: IO[bytes] | None = None
        try:
            # It has no name, so nothing of it is left behind.
            self._file = TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - closed with the round
        except OSError as error:
            self._warn(error)

    def __setitem__(self, index: int, vector: Raw) -> None:
        if not self._in_memory and self._file is not None:
            try:
                self._check_room(len(vector))
                self._file.seek(self._end)
                if self._file.write(vector) < len(vector):
                    self._file.truncate(self._end)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError as error:
                self._warn(error)
            else:
                self._places[index] = self._end, len(vector)
                self._end += len(vector)
                return
        self._in_memory[index] = bytes(vector)

    def __getitem__(self, index: int) -> bytes:
        if index in self._in_memory:
            return self._in_memory[index]
        assert self._file is not None
        place, length = self._places[index]
        self._file.seek(place)
        return self._file.read(length)

    def __enter__(self) -> SetAside:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()

    def _check_room(self, length: int) -> None:
        """Flower's database is on the same disk, and takes the uploads that are still to come."""
        if shutil.disk_usage(self._folder).free < AGGREGATOR_BYTES + length:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _warn(self, error: OSError) -> None:
        log.warning(
            "uploads of this round stay in memory: %s: %s; make room",
            self._folder,
            error.strerror,
            extra=about(LogEvent.STORAGE_FAILED),
        )
