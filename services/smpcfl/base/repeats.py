"""What repeats in a log: some lines of it a minute, then how many more there were."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

from .log_events import fields_of

MOST = 20
WINDOW_S = 60.0
_KEPT = 4096  # different ones in a minute; what comes after them counts as one
_LONGEST = 300  # characters of what is quoted

_Key = tuple[object, ...]


class Repeats:
    """Holds back what one peer, or anyone unknown, says again and again: a flood is no full disk.

    Lines count as the same if they come from one call, about one round and one peer. For one thread at a
    time, as a handler is.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = clock()
        self._seen: Counter[_Key] = Counter()
        self._first: dict[_Key, logging.LogRecord] = {}

    def take(self, record: logging.LogRecord) -> list[logging.LogRecord]:
        """What to write: the record unless it is one too many, and before it what an earlier minute held."""
        found = []
        now = self._clock()
        if now - self._began >= WINDOW_S:
            found = self.rest()
            self._began = now
        fields = fields_of(record)
        key: _Key = (record.name, str(record.msg), fields.get("round"), fields.get("peer"))
        if key not in self._seen and len(self._seen) >= _KEPT:
            key = ()
        self._seen[key] += 1
        if self._seen[key] <= MOST:
            return [*found, record]
        if key not in self._first:
            # As a text: the arguments may be large, or change.
            text = {"msg": record.getMessage()[:_LONGEST], "args": (), "exc_info": None}
            self._first[key] = logging.makeLogRecord({**record.__dict__, **fields, **text})
        return found

    def rest(self) -> list[logging.LogRecord]:
        """How many each held back is, with the first of them; from here on all counts anew."""
        found = []
        for key, record in self._first.items():
            more = self._seen[key] - MOST
            record.msg = f"{more} more like this within a minute: {record.msg}"
            found.append(record)
        self._seen.clear()
        self._first.clear()
        return found
