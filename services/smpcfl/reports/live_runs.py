"""The runs that the live page shows, each as it stands, and what the server needs of them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from .live_section import live_sections
from .live_server import Source
from .snapshot import Snapshot

T = TypeVar("T")
Stand = tuple[int, dict[str, Snapshot], dict[str, Snapshot], str]


class LiveRuns:
    """Put in by one thread, which waits for nothing, and read by others. `note`: below the heading."""

    def __init__(self, note: str) -> None:
        self._lock = threading.Lock()
        # Version, each as it stands, each a moment ago, note: one object, which is never changed.
        self._stand: Stand = (0, {}, {}, note)
        self._sections = _Made(
            lambda stand: live_sections(stand[1], stand[2], stand[3]), lambda: self._stand
        )
        self._state = _Made(_state_of, lambda: self._stand)

    def put(self, name: str, snapshot: Snapshot) -> None:
        """The one of this name as it stands now; the last name that is new is the run that goes on."""
        with self._lock:
            version, now, before, note = self._stand
            if (old := now.get(name)) == snapshot and before.get(name) == snapshot:
                return
            before = {**before, name: old or snapshot}
            self._stand = version + 1, {**now, name: snapshot}, before, note

    def say(self, note: str) -> None:
        """Below the heading from now on."""
        with self._lock:
            version, now, before, _ = self._stand
            self._stand = version + 1, now, before, note

    def source(self) -> Source:
        return Source(lambda: self._stand[0], self._sections, self._state)


class _Made(Generic[T]):
    """Made of how it stands, once for each version, however many ask."""

    def __init__(self, make: Callable[[Stand], T], stand: Callable[[], Stand]) -> None:
        self._make = make
        self._stand = stand
        self._lock = threading.Lock()
        self._last: tuple[int, T] | None = None

    def __call__(self) -> T:
        with self._lock:
            stand = self._stand()
            if self._last is None or self._last[0] != stand[0]:
                self._last = stand[0], self._make(stand)
            return self._last[1]


def _state_of(stand: Stand) -> bytes:
    modes = {name: json.loads(one.to_json()) for name, one in stand[1].items()}
    return json.dumps({"modes": modes}, allow_nan=False).encode()


def read_state(text: bytes) -> dict[str, Snapshot]:
    """What `/state` of a live page says, by name. ValueError for anything else."""
    try:
        whole = json.loads(text)
    except RecursionError:
        raise ValueError("a state is not nested like that") from None
    if not isinstance(whole, dict) or not isinstance(whole.get("modes"), dict):
        raise ValueError("no state of a live page")
    return {
        name: Snapshot.from_json(json.dumps(members).encode())
        for name, members in whole["modes"].items()
    }
