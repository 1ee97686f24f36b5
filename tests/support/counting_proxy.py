"""A TCP proxy that counts what passes through it: TLS and all above it, as on the wire."""

from __future__ import annotations

import asyncio
import contextlib

LOOPBACK = "127.0.0.1"
_PIECE = 1 << 16


class CountingProxy:
    """In front of the server at `target`. `up` are the bytes towards it, `down` those that it sent."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = host, int(port)
        self._tasks: set[asyncio.Task[None]] = set()
        self.up = self.down = self.connections = 0

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
        self.connections += 1
        async with asyncio.TaskGroup() as both:
            both.create_task(self._pass(reader, far_writer, "up"))
            both.create_task(self._pass(far_reader, writer, "down"))

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str
    ) -> None:
        try:
            with contextlib.suppress(ConnectionError):
                while data := await reader.read(_PIECE):
                    setattr(self, way, getattr(self, way) + len(data))
                    writer.write(data)
                    await writer.drain()
        finally:
            writer.close()
