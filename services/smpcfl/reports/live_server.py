"""Serves the live page: the sections of a report, sent anew as they change (server-sent events, HTML 9.2).

No login, and nothing secret: it listens on loopback, or where its operator says, and answers only requests
that name this machine, so that no other page in the browser reads it, or shows it in a frame.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route

from ..base.config import cannot_listen
from ..base.host_port import family
from .report_page import document

_HOSTS = ["localhost", "127.0.0.1"]
_LOOK_S = 0.5
_WATCHED_S = 5.0
_MOST_STREAMS = 32
_MOST_REQUESTS = 64
_HEADERS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}

Sections = Mapping[str, str]


@dataclass(frozen=True)
class Source:
    """What the page is made of. Called in the server's thread.

    `version` changes with what `sections` and `state` would return; `state` is JSON.
    """

    version: Callable[[], object]
    sections: Callable[[], Sections]
    state: Callable[[], bytes]


class LiveServer:
    """Runs in a thread of its own. PortInUse or ConfigError if it cannot listen there."""

    def __init__(self, source: Source, host: str, port: int) -> None:
        self._source = source
        self._looked = 0.0
        self._streams = 0
        self._over = False
        try:
            self._socket = socket.create_server(
                (host, port), family=family(host), dualstack_ipv6=host == "::"
            )
        except OSError as error:
            raise cannot_listen(host, port, "page-port", error) from error
        self.port: int = self._socket.getsockname()[1]
        app = Starlette(
            routes=[
                Route("/", self._page),
                Route("/events", self._events),
                Route("/state", self._state),
                Route("/live.js", self._script),
            ],
            middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=_HOSTS)],
        )
        config = uvicorn.Config(
            app,
            log_config=None,
            log_level="critical",  # who does not read to the end is told of by a traceback otherwise
            limit_concurrency=_MOST_REQUESTS,
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=1,
            server_header=False,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="live-page", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._server.run(sockets=[self._socket])

    @property
    def url(self) -> str:
        # Not by an IPv6 address, because Starlette takes a Host up to its first colon.
        host = "localhost" if self._socket.family == socket.AF_INET6 else "127.0.0.1"
        return f"http://{host}:{self.port}/"

    def watched(self) -> bool:
        """Whether anybody looks, or has just looked."""
        return self._streams > 0 or time.monotonic() - self._looked < _WATCHED_S

    def close(self) -> None:
        """Whoever looks is told that it is over."""
        self._over = True
        latest = time.monotonic() + 3 * _LOOK_S
        while self._streams and time.monotonic() < latest:
            time.sleep(_LOOK_S / 10)
        self._server.should_exit = True
        self._thread.join(3.0)
        self._socket.close()

    async def _page(self, request: Request) -> Response:
        self._looked = time.monotonic()
        sections = await run_in_threadpool(self._source.sections)
        return HTMLResponse(document(sections, "live", live=True), headers=_HEADERS)

    async def _script(self, request: Request) -> Response:
        text = files(__package__).joinpath("live.js").read_text("utf-8")
        return Response(text, media_type="text/javascript", headers=_HEADERS)

    async def _state(self, request: Request) -> Response:
        self._looked = time.monotonic()
        state = await run_in_threadpool(self._source.state)
        return Response(state, media_type="application/json", headers=_HEADERS)

    async def _events(self, request: Request) -> Response:
        if self._streams >= _MOST_STREAMS:
            return Response("too many watch this page\n", 503)
        return StreamingResponse(
            self._changes(request), media_type="text/event-stream", headers=_HEADERS
        )

    async def _changes(self, request: Request) -> AsyncIterator[str]:
        """Each section that is another one than was sent last."""
        self._streams += 1
        sent: dict[str, str] = {}
        version: object = None
        try:
            while not await request.is_disconnected():
                over = self._over
                if (now := self._source.version()) != version:
                    version = now
                    found = await run_in_threadpool(self._source.sections)
                    changed = {name: html for name, html in found.items() if sent.get(name) != html}
                    sent.update(changed)
                    data = {"now": time.time(), "order": list(found), "sections": changed}
                    yield f"event: sections\ndata: {json.dumps(data)}\n\n"
                if over:
                    yield "event: end\ndata: {}\n\n"
                    return
                await asyncio.sleep(_LOOK_S)
        finally:
            self._streams -= 1
