"""A test's markers say what it needs: without them it fails if it opens a socket or starts a process.

That keeps `make unit` true. Socket pairs, as asyncio makes for itself, are no sockets in this sense, and the
tools below no processes: a small disk is mounted, and libraries ask what machine this is.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import smpcfl  # noqa: F401  (before gRPC: see there)

# isort: split
import pytest
from grpc import _channel, _server
from grpc.aio import _channel as aio_channel
from grpc.aio import _server as aio_server

TOOLS = {"mount", "umount", "uname", "ldconfig"}
PROCESSES = ("commands", "processes", "containers")
SOCKETS = ("sockets", *PROCESSES)
# What Python reports (sys.audit), and the constructors of gRPC, which opens its sockets in C.
ALLOWED_BY = {
    "socket.bind": SOCKETS,
    "socket.connect": SOCKETS,
    "grpc": SOCKETS,
    "subprocess.Popen": PROCESSES,
    "os.fork": PROCESSES,
    "os.forkpty": PROCESSES,
    "os.posix_spawn": PROCESSES,
}
GRPC = (_channel.Channel, _server._Server, aio_channel.Channel, aio_server.Server)
_used: dict[str, str] = {}
"""By the test that runs: what, and the first of its kind."""


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in ALLOWED_BY or arguments[1:] == (
        ("::1", 0),
    ):  # urllib3 asks so for IPv6 on import
        return
    if event != "subprocess.Popen" or Path(os.fsdecode(arguments[0])).name not in TOOLS:
        _used.setdefault(event, " ".join([event, *map(str, arguments[1:2])]))  # no environment


def _noted(kind: type) -> None:
    build = kind.__init__

    @functools.wraps(build)
    def noting(self: Any, *arguments: Any, **named: Any) -> None:
        _note("grpc", (kind, kind.__name__))
        build(self, *arguments, **named)

    kind.__init__ = noting  # type: ignore[misc]


sys.addaudithook(_note)
for each in GRPC:
    _noted(each)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    _used.clear()


@pytest.fixture(autouse=True)
def _as_marked(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    markers = {marker.name for marker in request.node.iter_markers()}
    for event, what in _used.items():
        if markers.isdisjoint(ALLOWED_BY[event]):
            pytest.fail(f"{what}: mark this test `{ALLOWED_BY[event][0]}`", pytrace=False)
