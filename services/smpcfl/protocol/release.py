"""When an upload leaves: in few steps, so that its time reveals little of how long training took.

The steps are 2 s · 2^(j/2) after training began, the same for every ticket, so that no aggregator can move
them to and fro around the time that it wants to know. A peer also waits at least as long as its last training
took, in steps: one that fails at once then leaves when one that succeeds would.
"""

from __future__ import annotations

FIRST_MS = 2_000


def release_ms(training_ms: int, earlier_ms: int = 0) -> int:
    """The first step that is not before either time; all in milliseconds after training began."""
    latest, step, number = max(training_ms, earlier_ms), FIRST_MS, 0
    while step < latest:
        number += 1
        step = round(FIRST_MS * 2 ** (number / 2))
    return step
