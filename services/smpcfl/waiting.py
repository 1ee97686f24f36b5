"""One way to wait that a shutdown can end."""

from __future__ import annotations

import asyncio
import contextlib


async def wait_for(event: asyncio.Event, seconds: float) -> None:
    """Until the event is set, at most so long."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
