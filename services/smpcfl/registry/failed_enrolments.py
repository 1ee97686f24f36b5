"""How often a host may fail to enrol before it is not listened to for a while."""

from __future__ import annotations

from collections import OrderedDict

FAILURES = 10
WINDOW_S = 60.0
_HOSTS = 4096  # remembered; the one that failed longest ago is forgotten first


class FailedEnrolments:
    """Counts failures by host, over `WINDOW_S`. `now` is in seconds of any clock that only goes forward."""

    def __init__(self) -> None:
        self._failures: OrderedDict[str, list[float]] = OrderedDict()

    def wait_s(self, host: str, now: float) -> float:
        """For how long nothing is taken from this host, 0 if it may try."""
        recent = [at for at in self._failures.get(host, ()) if now - at < WINDOW_S]
        return WINDOW_S - (now - recent[0]) if len(recent) >= FAILURES else 0.0

    def add(self, host: str, now: float) -> None:
        recent = [at for at in self._failures.pop(host, ()) if now - at < WINDOW_S]
        self._failures[host] = [*recent, now][-FAILURES:]
        while len(self._failures) > _HOSTS:
            self._failures.popitem(last=False)
