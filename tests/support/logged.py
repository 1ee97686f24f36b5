"""Lines of the log as they are written: with what is on them from around the call."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass

from smpcfl.base.log_events import fields_of


@dataclass(frozen=True)
class Line:
    event: str
    message: str
    fields: dict[str, int | str]


class _Kept(logging.Handler):
    def __init__(self, into: list[Line]) -> None:
        super().__init__()
        self._into = into

    def emit(self, record: logging.LogRecord) -> None:
        event = getattr(record, "event", "")
        self._into.append(Line(event, record.getMessage(), fields_of(record)))


@contextlib.contextmanager
def logged(name: str = "smpcfl") -> Iterator[list[Line]]:
    """Of this logger, from INFO up."""
    lines: list[Line] = []
    logger, kept = logging.getLogger(name), _Kept(lines)
    before = logger.level
    logger.addHandler(kept)
    logger.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        logger.setLevel(before)
        logger.removeHandler(kept)
