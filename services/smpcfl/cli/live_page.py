"""The live page of `smpcfl demo` and `compare`: what the aggregator of each run says of it, on one page."""

from __future__ import annotations

import contextlib
import http.client
import time
from types import TracebackType

from ..base.config import PortInUse
from ..reports.live_runs import LiveRuns, read_state
from ..reports.live_server import LiveServer
from ..reports.snapshot import Snapshot
from .stack import LOOPBACK

_PORT = 8765  # the same in every run, where it is free
_EVERY_S = 0.5
_CALL_S = 2.0


class LivePage:
    """Use as a context manager. `wanted`: else nothing is served, and `url` is empty."""

    def __init__(self, *, wanted: bool) -> None:
        self.runs = LiveRuns("It follows the run, and is gone when that is over; the report stays.")
        self._wanted = wanted
        self._server: LiveServer | None = None

    def __enter__(self) -> LivePage:
        if self._wanted:
            try:
                self._server = LiveServer(self.runs.source(), LOOPBACK, _PORT)
            except PortInUse:
                self._server = LiveServer(self.runs.source(), LOOPBACK, 0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.close()

    @property
    def url(self) -> str:
        return self._server.url if self._server is not None else ""


class Follow:
    """How the run of one aggregator stands, asked at its own live page; about twice a second."""

    def __init__(self, mode: str, port: int) -> None:
        self._mode = mode
        self._port = port
        self._asked = 0.0
        self.last: Snapshot | None = None

    def look(self) -> Snapshot | None:
        """As it stands now; None if nothing is known yet."""
        if time.monotonic() - self._asked >= _EVERY_S:
            self._asked = time.monotonic()
            with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
                self.last = read_state(self._get()).get(self._mode, self.last)
        return self.last

    def _get(self) -> bytes:
        connection = http.client.HTTPConnection(LOOPBACK, self._port, timeout=_CALL_S)
        try:
            connection.request("GET", "/state")
            return connection.getresponse().read()
        finally:
            connection.close()
