"""Ways to wait that a shutdown can end, and when to say what for."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from .log_events import LogEvent, about

log = logging.getLogger("smpcfl")
T = TypeVar("T")


class Reminder:
    """When to log what is waited for: at once, and again every ten seconds."""

    EVERY_S = 10.0

    def __init__(self) -> None:
        self._last = -math.inf

    def is_due(self) -> bool:
        now = time.monotonic()
        due = now - self._last >= self.EVERY_S
        if due:
            self._last = now
        return due


async def wait_for(event: asyncio.Event, seconds: float) -> None:
    """Until the event is set, at most so long."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)


async def or_stop(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """What `work` returns. None if `stop` comes first: the work is cancelled then."""
    working = asyncio.create_task(work)
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        stopping.cancel()
        working.cancel()
        await asyncio.wait({working})


async def until_stop(stop: asyncio.Event, tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Until `stop`, or until a task fails: sets `stop` for the others then, and raises its error."""
    stopping = asyncio.create_task(stop.wait())
    pending: set[asyncio.Task[Any]] = {stopping, *tasks}
    try:
        while stopping in pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if not task.cancelled() and (error := task.exception()) is not None:
                    name = getattr(task.get_coro(), "__qualname__", task.get_name())
                    log.error(
                        "%s failed, and so the service ends: %r",
                        name,
                        error,
                        extra=about(LogEvent.SERVICE_FAILED),
                    )
                    stop.set()
                    raise error
    finally:
        stopping.cancel()
