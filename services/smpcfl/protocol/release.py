"""When an upload leaves: in few steps, so that its time tells little of how long training took.

The steps are 2 s · 2^(j/2) after training began, the same for every ticket, so that no aggregator can move
them to and fro around the time that it wants to know. A peer also waits at least until its floor: one that
fails at once then leaves when one that succeeds would.
"""

from __future__ import annotations

from dataclasses import dataclass

FIRST_MS = 2_000
DECAY = 10


def release_ms(training_ms: int, floor_ms: int = 0) -> int:
    """The first step that is not before either time; all in milliseconds after training began."""
    latest, step, number = max(training_ms, floor_ms), FIRST_MS, 0
    while step < latest:
        number += 1
        step = round(FIRST_MS * 2 ** (number / 2))
    return step


@dataclass
class Floor:
    """Before which no upload of this peer leaves. It follows from when uploads left, which is seen anyway.

    Never from how training went: what only a success moved would show, a round later, who failed. It goes up
    with an upload that leaves later, and down by a step after `DECAY` that did not.
    """

    ms: int = 0
    _since: int = 0

    def left(self, released_ms: int, training_ms: int) -> None:
        """An upload left so long after training began; `training_ms`: when the latest do.

        One that leaves then is seen to have been cut off: it says nothing of how long training takes.
        """
        if released_ms >= training_ms:
            return
        if released_ms > self.ms:
            self.ms, self._since = released_ms, 0
            return
        self._since += 1
        if self._since == DECAY:
            self.ms, self._since = round(self.ms / 2**0.5), 0
