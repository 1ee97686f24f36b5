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
DAY_MS = 24 * 3_600_000


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
    with an upload that leaves later, and down by a step after `DECAY` that did not, once a day at most: after
    a step down the next upload shows on which side of that step training ended, so each is a question.

    `since`: uploads since it last moved; `moved_ms`: when that was, by this peer's clock (Unix).
    """

    ms: int = 0
    since: int = 0
    moved_ms: int = 0

    def left(self, released_ms: int, limit_ms: int, now_ms: int) -> None:
        """An upload left so long after training began, of a ticket that gives `limit_ms` to train."""
        if limit_ms < self.ms:
            return  # it left at that limit, whatever it was: this says nothing of trainings
        if released_ms > self.ms:
            self._move(released_ms, now_ms)
            return
        self.since = min(self.since + 1, DECAY)
        self.moved_ms = min(
            self.moved_ms, now_ms
        )  # a clock that was ahead holds it up for no longer than a day
        if self.since == DECAY and now_ms - self.moved_ms >= DAY_MS:
            self._move(round(self.ms / 2**0.5), now_ms)

    def _move(self, ms: int, now_ms: int) -> None:
        self.ms, self.since, self.moved_ms = ms, 0, now_ms
