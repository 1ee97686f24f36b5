"""Runs one of the three services, until it is told to stop by a signal: its log, its metrics, its loop."""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import signal
from collections.abc import Callable, Coroutine
from traceback import clear_frames
from typing import Any

from ..base import config, files, log
from ..base.config import Settings
from ..base.metrics import Metrics
from ..protocol.errors import Reason


def serve_until_stopped(options: argparse.Namespace) -> int:
    settings = config.load(os.environ, vars(options))
    log.configure(options.command, settings.mode, settings.log_format)
    # A core dump would hold the keys.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Before anything starts: what cannot be kept would be missed in the middle of a run.
    files.check(settings.state, files.LEAST_BYTES)
    metrics = Metrics(settings.mode)
    metrics.rejected.start_at_zero(reason=[reason.value for reason in Reason])
    metrics.serve(settings.host, settings.metrics_port)
    return asyncio.run(_until_signal(options.command, settings, metrics))


async def _until_signal(service: str, settings: Settings, metrics: Metrics) -> int:
    serve: Callable[[Settings, Metrics, asyncio.Event], Coroutine[Any, Any, None]]
    if service == "registry":
        from ..registry.serve_registry import serve
    elif service == "peer":
        from ..peer.serve_peer import serve
    else:
        from ..aggregator.serve_aggregator import serve
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    work = asyncio.create_task(serve(settings, metrics, stop))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not work.done():
        await asyncio.wait({work}, timeout=15.0)
    if not work.done():
        work.cancel()
        await asyncio.wait({work})
    stopping.cancel()
    if not work.cancelled() and (error := work.exception()) is not None:
        # gRPC's servers, which the frames hold, want to be done with while the loop still runs.
        clear_frames(error.__traceback__)
        await asyncio.sleep(0)
        raise error
    return 0
