"""A TCP proxy that counts what passes through it: TLS and all above it, as on the wire."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass

LOOPBACK = "127.0.0.1"
_PIECE = 1 << 16


@dataclass
class Passed:
    """Bytes of one connection: `up` to the server, `down` from it."""

    up: int = 0
    down: int = 0


class CountingProxy:
    """In front of the server at `target`."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = host, int(port)
        self._tasks: set[asyncio.Task[None]] = set()
        self.passed: list[Passed] = []  # by connection, in the order in which they were made

    @property
    def up(self) -> int:
        return sum(one.up for one in self.passed)

    @property
    def down(self) -> int:
        return sum(one.down for one in self.passed)

    async def __aenter__(self) -> CountingProxy:
        self._server = await asyncio.start_server(self._accept, LOOPBACK, 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.address = f"{LOOPBACK}:{self.port}"
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.close()
            return
        passed = Passed()
        self.passed.append(passed)
        async with asyncio.TaskGroup() as both:
            both.create_task(self._pass(reader, far_writer, passed, "up"))
            both.create_task(self._pass(far_reader, writer, passed, "down"))

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passed: Passed, way: str
    ) -> None:
        see = self.watch(way)
        try:
            with contextlib.suppress(ConnectionError):
                while data := await reader.read(_PIECE):
                    setattr(passed, way, getattr(passed, way) + len(data))
                    see(data)
                    writer.write(data)
                    await writer.drain()
        finally:
            writer.close()

    def watch(self, way: str) -> Callable[[bytes], None]:
        """What is to see all that goes this way on one connection; for a test of its own."""
        return lambda data: None
