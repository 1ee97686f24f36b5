"""The runs that the live page shows, each as it stands, and what the server needs of them."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping

from .live_section import live_sections
from .live_server import Source
from .snapshot import Snapshot


class LiveRuns:
    """Put in by one thread, read by another. `note`: a line below the heading of the page."""

    def __init__(self, note: str) -> None:
        self.note = note
        self._lock = threading.Lock()
        self._version = 0
        self._now: dict[str, Snapshot] = {}
        self._before: dict[str, Snapshot] = {}
        self._made: tuple[int, dict[str, str]] = (-1, {})

    def put(self, name: str, snapshot: Snapshot) -> None:
        """The one of this name as it stands now; the last name that is new is the run that goes on."""
        with self._lock:
            if (old := self._now.get(name)) == snapshot and self._before.get(name) == snapshot:
                return
            self._before[name] = old or snapshot
            self._now[name] = snapshot
            self._version += 1

    def say(self, note: str) -> None:
        """Below the heading from now on."""
        with self._lock:
            self.note = note
            self._version += 1

    def source(self) -> Source:
        return Source(lambda: self._version, self._sections, self._state)

    def _sections(self) -> Mapping[str, str]:
        with self._lock:
            if self._made[0] != self._version:
                self._made = self._version, live_sections(self._now, self._before, self.note)
            return self._made[1]

    def _state(self) -> bytes:
        with self._lock:
            modes = {name: json.loads(one.to_json()) for name, one in self._now.items()}
        return json.dumps({"modes": modes}, allow_nan=False).encode()


def read_state(text: bytes) -> dict[str, Snapshot]:
    """What `/state` of a live page says, by name. ValueError for anything else."""
    whole = json.loads(text)
    if not isinstance(whole, dict) or not isinstance(whole.get("modes"), dict):
        raise ValueError("no state of a live page")
    return {
        name: Snapshot.from_json(json.dumps(members).encode())
        for name, members in whole["modes"].items()
    }
