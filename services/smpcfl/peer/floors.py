"""The times before which this peer's uploads leave for nobody: one for each task, kept on disk.

An agent that starts again would else be one without a past, and a restart can be brought about from outside.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict
from pathlib import Path

from ..base.files import StorageError, write_private
from ..base.log_events import LogEvent, about
from ..protocol.release import DECAY, Floor
from ..protocol.ticket import EVALUATE, TRAIN

log = logging.getLogger("smpcfl.peer")


class Floors:
    """Kept in memory alone without a `path`. StorageError if the file is damaged."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._floors = {task: Floor() for task in (TRAIN, EVALUATE)}
        if path is None:
            return
        try:
            kept = json.loads(path.read_bytes())
            self._floors = {task: _read(kept[task]) for task in self._floors}
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StorageError(f"{path} is damaged ({error}): remove it") from error

    def ms(self, task: str) -> int:
        return self._floors[task].ms

    def left(self, task: str, released_ms: int, limit_ms: int) -> None:
        """An upload left so long after training began, of a ticket that gives `limit_ms` to train."""
        self._floors[task].left(released_ms, limit_ms, int(time.time() * 1000))
        if self._path is None:
            return
        kept = {name: asdict(floor) for name, floor in self._floors.items()}
        try:
            write_private(self._path, json.dumps(kept).encode())
        except OSError as error:
            log.warning(
                "cannot write %s: %s", self._path, error, extra=about(LogEvent.STORAGE_FAILED)
            )


def _read(kept: dict[str, int]) -> Floor:
    floor = Floor(**kept)
    if any(type(value) is not int for value in asdict(floor).values()):
        raise TypeError(f"{kept}")
    if floor.ms < 0 or not 0 <= floor.since <= DECAY:
        raise ValueError(f"{kept}")
    return floor
