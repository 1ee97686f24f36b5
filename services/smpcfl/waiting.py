"""Ways to wait that a shutdown can end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from typing import Any

log = logging.getLogger("smpcfl")


async def wait_for(event: asyncio.Event, seconds: float) -> None:
    """Until the event is set, at most so long."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)


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
                    log.error("%s failed, and so the service ends: %r", name, error)
                    stop.set()
                    raise error
    finally:
        stopping.cancel()
