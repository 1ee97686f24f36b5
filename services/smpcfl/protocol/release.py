"""When an upload leaves: in few steps, so that its time tells little of how long training took.

The steps are 2 s · 2^(j/2) after training began, the same for every ticket, so that no aggregator can move
them to and fro around the time that it wants to know. A peer also waits at least until its floor: one that
fails at once then leaves when one that succeeds would.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, takewhile

FIRST_MS = 2_000
DECAY = 10


def release_ms(training_ms: int, floor_ms: int = 0) -> int:
    """The first step that is not before either time; all in milliseconds after training began."""
    latest = max(training_ms, floor_ms)
    return next(step for step in _steps() if step >= latest)


def last_step_ms(limit_ms: int) -> int:
    """The last step that is not after `limit_ms`; 0 if none is.

    A deadline between two steps would be one more, wherever the aggregator wants to look.
    """
    return max(takewhile(lambda step: step <= limit_ms, _steps()), default=0)


def _steps() -> Iterator[int]:
    return (round(FIRST_MS * 2 ** (number / 2)) for number in count())


@dataclass
class Floor:
    """Before which no upload of this peer leaves. It follows from when uploads left, which is seen anyway.

    Never from how training went: what only a success moved would show, a round later, who failed. It goes up
    with an upload that leaves later, and down by a step after `DECAY` that did not.
    """

    ms: int = 0
    since: int = 0

    def left(self, released_ms: int) -> None:
        """An upload left so long after training began."""
        if released_ms > self.ms:
            self.ms, self.since = released_ms, 0
            return
        self.since += 1
        if self.since == DECAY:
            self.ms, self.since = round(self.ms / 2**0.5), 0
