"""Whose connections are counted, and under which name."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from smpcfl.base import tcp_sockets
from smpcfl.base.metrics import Metrics
from smpcfl.net import wire_bytes
from smpcfl.net.wire_bytes import FLOWER, PEER, REGISTRY, WireBytes

pytestmark = pytest.mark.sockets
LONG_S = 30.0
NAME = "smpcfl_wire_bytes_total"


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as found:
        yield found


class Counts:
    def __init__(self, **whose: Any) -> None:
        self.found: Counter[tuple[str, str]] = Counter()
        self.wire = WireBytes(self._count, **whose)

    def _count(self, direction: str, connection: str, number: int) -> None:
        self.found[direction, connection] += number

    def until(self, expected: dict[tuple[str, str], int]) -> None:
        """A SYN and a FIN, which count as a byte each, are left out of `expected`."""
        latest = time.monotonic() + LONG_S
        while True:
            self.wire.look()
            whole = {key: n // 1000 * 1000 for key, n in self.found.items() if n >= 1000}
            if whole == expected:
                return
            assert time.monotonic() < latest, self.found
            time.sleep(0.001)


def port(server: socket.socket) -> int:
    return int(server.getsockname()[1])


def exchanged(server: socket.socket) -> None:
    """A whole connection: 1000 bytes there, 2000 back."""
    with socket.create_connection(server.getsockname()) as one:
        other, _ = server.accept()
        with other:
            one.sendall(bytes(1000))
            other.sendall(bytes(2000))
            assert len(one.recv(2000, socket.MSG_WAITALL)) == 2000
            assert len(other.recv(1000, socket.MSG_WAITALL)) == 1000


def test_what_came_and_went_between_two_looks_is_counted_where_we_listen(
    server: socket.socket,
) -> None:
    counts = Counts(listening={port(server): PEER})
    exchanged(server)
    counts.until({("in", PEER): 1000, ("out", PEER): 2000})
    exchanged(server)
    counts.until({("in", PEER): 2000, ("out", PEER): 4000})
    assert not counts.wire._followed, "those that ended are forgotten"
    counts.wire.close()


def test_other_ports_are_nobodys(server: socket.socket) -> None:
    counts = Counts(listening={port(server) + 1: PEER}, dialled=lambda: {1: REGISTRY})
    witness = Counts(listening={port(server): PEER})
    exchanged(server)
    witness.until({("in", PEER): 1000, ("out", PEER): 2000})
    counts.until({})
    counts.wire.close()
    witness.wire.close()


def dial(address: tuple[str, int], go_on: Any) -> None:
    """In a process of its own."""
    with socket.create_connection(address) as one:
        one.sendall(bytes(1000))
        go_on.wait(LONG_S)


@pytest.fixture
def child(server: socket.socket) -> Iterator[int]:
    """A process that has dialled and sent 1000 bytes; its id."""
    context = multiprocessing.get_context("spawn")
    go_on = context.Event()
    process = context.Process(target=dial, args=(server.getsockname(), go_on))
    process.start()
    other, _ = server.accept()
    with other:
        assert len(other.recv(1000, socket.MSG_WAITALL)) == 1000
        assert process.pid is not None
        yield process.pid
        go_on.set()
        process.join(LONG_S)


def test_a_child_s_connection_is_the_service_s_and_another_process_s_is_not(
    server: socket.socket, child: int
) -> None:
    def dialled() -> dict[int, str]:
        return {port(server): FLOWER}

    ours = Counts(listening={}, dialled=dialled, dialling=lambda: [os.getpid(), child])
    ours.until({("out", FLOWER): 1000})
    others = Counts(listening={}, dialled=dialled)
    others.until({})
    ours.wire.close()
    others.wire.close()


def test_what_a_service_tells_itself_is_not_counted(server: socket.socket, child: int) -> None:
    """As the SuperLink's port, which SuperNodes and the aggregator's own ServerApp call."""
    with socket.create_connection(server.getsockname()) as one:
        other, _ = server.accept()
        one.sendall(bytes(3000))
        assert len(other.recv(3000, socket.MSG_WAITALL)) == 3000
        counts = Counts(listening={port(server): FLOWER}, inside=lambda: [child])
        counts.until({("in", FLOWER): 3000})
        witness = Counts(listening={port(server): FLOWER})
        exchanged(server)  # by whom, nobody knows: perhaps by a child
        witness.until({("in", FLOWER): 5000, ("out", FLOWER): 2000})
        other.close()
    counts.until({("in", FLOWER): 3000})
    counts.wire.close()
    witness.wire.close()


def test_ends_that_were_missed_leave_nothing_behind(server: socket.socket) -> None:
    with socket.create_connection(server.getsockname()), server.accept()[0]:
        counts = Counts(listening={port(server): PEER})
        assert counts.wire._followed
    counts.wire._sockets.ended = lambda: ([], False)  # type: ignore[method-assign]
    latest = time.monotonic() + LONG_S
    while counts.wire._followed:
        assert time.monotonic() < latest
        counts.wire.look()
    counts.wire.close()


async def counting(
    metrics: Metrics, server: socket.socket, then: Callable[[], None] = lambda: None
) -> None:
    stop = asyncio.Event()
    work = asyncio.create_task(
        wire_bytes.keep_counted(metrics, stop, (PEER,), listening={port(server): PEER})
    )
    await asyncio.sleep(0)  # it begins
    then()
    stop.set()
    await work


async def test_whoever_scrapes_sees_what_there_is_by_then(server: socket.socket) -> None:
    metrics = Metrics("seeded", CollectorRegistry())

    def shown(direction: str) -> float | None:
        labels = {"mode": "seeded", "direction": direction, "connection": PEER}
        return metrics.registry.get_sample_value(NAME, labels)

    def look() -> None:
        assert shown("in") == 0
        with socket.create_connection(server.getsockname()) as one, server.accept()[0]:
            one.sendall(bytes(1000))
            latest = time.monotonic() + LONG_S
            while shown("in") != 1000:
                assert time.monotonic() < latest

    await counting(metrics, server, look)
    assert not metrics.before_scrape


async def test_where_the_system_does_not_tell_the_metric_is_absent(
    server: socket.socket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> None:
        raise PermissionError("Operation not permitted")

    monkeypatch.setattr(tcp_sockets, "_netlink", refuse)
    metrics = Metrics("seeded", CollectorRegistry())
    with caplog.at_level(logging.INFO):
        await counting(metrics, server)
    (line,) = caplog.messages
    assert NAME in line
    assert "Operation not permitted" in line
    assert f"{NAME}{{".encode() not in generate_latest(metrics.registry)


async def test_a_look_that_fails_costs_no_scrape(server: socket.socket) -> None:
    counts = Counts(listening={port(server): PEER})

    def fail() -> Any:
        raise OSError("no more files")

    counts.wire._sockets.living = fail  # type: ignore[method-assign]
    counts.wire.look()
    counts.wire.close()


def test_an_address_that_is_none_is_left_out() -> None:
    """An older registry let peers say what they liked, and the service that heard of it ended."""
    directory = SimpleNamespace(
        by_mdns={"a": "10.0.0.2:9300"},
        by_registry={"b": "'no such host!':9300", "c": "[2001:db8::2]:9301", "d": "x", "e": ""},
    )
    assert wire_bytes.peers_of(cast(Any, directory)) == {9300: PEER, 9301: PEER}
