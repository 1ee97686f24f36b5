"""When an unanswered call is due again: at once, then after 0.25 s, doubling up to 3 s."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

FIRST_S = 0.25
LONGEST_S = 3.0


@dataclass
class Retries:
    """Calls in flight and when failed ones may be made again; `now` is in seconds."""

    _due: dict[Hashable, float] = field(default_factory=dict)
    _wait: dict[Hashable, float] = field(default_factory=dict)
    _flying: set[Hashable] = field(default_factory=set)
    _looked: float = -1.0

    def look(self, now: float) -> None:
        """All calls that are wanted and due at `now` are being made."""
        self._looked = now

    def start(self, key: Hashable, now: float) -> bool:
        """True, and in flight from now on, if the call is due."""
        if key in self._flying or now < self._due.get(key, now):
            return False
        self._flying.add(key)
        return True

    def defer(self, key: Hashable, until: float) -> None:
        """Not before `until`, unless it was tried already."""
        self._due.setdefault(key, until)

    def forget(self, key: Hashable) -> None:
        """It is deferred no more, if it was: what it was wanted for is done."""
        if key not in self._flying and key not in self._wait:
            self._due.pop(key, None)

    def succeeded(self, key: Hashable) -> None:
        self._flying.discard(key)
        self._wait.pop(key, None)
        self._due.pop(key, None)

    def failed(self, key: Hashable, now: float) -> None:
        self._flying.discard(key)
        wait = self._wait.get(key, FIRST_S)
        self._due[key] = now + wait
        self._wait[key] = min(wait * 2, LONGEST_S)

    def next_due(self, now: float) -> float | None:
        """When a failed or deferred call is due again, not before `now`.

        What was due at the last `look` and was not made then is no longer wanted.
        """
        waiting = [
            due for key, due in self._due.items() if due > self._looked and key not in self._flying
        ]
        return max(min(waiting), now) if waiting else None
