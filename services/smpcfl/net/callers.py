"""What one caller may ask of a service, so that none of them can starve the rest."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from ..base.log_events import LogEvent, about
from ..protocol.errors import Reason, RemoteError

log = logging.getLogger("smpcfl")
_KEPT = 4096  # callers that are remembered


@dataclass(frozen=True)
class Allowance:
    """Of one caller. A round takes less than ten calls of each pair, a heartbeat one in two seconds, and
    retries are seconds apart.
    """

    in_flight: int = 8
    burst: int = 50
    per_second: float = 10.0
    pause_s: float = 1.0
    """Before a call is refused for these limits: a flood costs its sender time, and others none."""


@dataclass
class _Caller:
    left: float
    seen: float
    in_flight: int = 0
    reported: bool = False


class Callers:
    """Counts the calls of each caller by its name."""

    def __init__(
        self, allowance: Allowance | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._allowance = allowance or Allowance()
        self._clock = clock
        self._callers: dict[str, _Caller] = {}

    @contextlib.asynccontextmanager
    async def admit(self, name: str) -> AsyncIterator[None]:
        """For the time of one call. RemoteError(RATE_LIMITED), after a while, if it is one too many."""
        caller = self._find(name)
        if caller.left < 1 or caller.in_flight >= self._allowance.in_flight:
            if not caller.reported:
                log.warning(
                    "%s calls too often and is held back",
                    name,
                    extra=about(LogEvent.HELD_BACK, peer=name),
                )
                caller.reported = True
            await asyncio.sleep(self._allowance.pause_s)
            raise RemoteError(Reason.RATE_LIMITED, peer=name)
        caller.left -= 1
        caller.in_flight += 1
        try:
            yield
        finally:
            caller.in_flight -= 1

    def _find(self, name: str) -> _Caller:
        now, allowance = self._clock(), self._allowance
        caller = self._callers.get(name)
        if caller is None:
            if len(self._callers) >= _KEPT:
                self._forget(now)
            caller = self._callers[name] = _Caller(allowance.burst, now)
        earned = (now - caller.seen) * allowance.per_second
        caller.left, caller.seen = min(caller.left + earned, allowance.burst), now
        if caller.left >= allowance.burst / 2:
            caller.reported = False
        return caller

    def _forget(self, now: float) -> None:
        """Those who have not called for so long that they start anew anyway."""
        rested = now - self._allowance.burst / self._allowance.per_second
        self._callers = {
            name: caller
            for name, caller in self._callers.items()
            if caller.in_flight or caller.seen > rested
        }
