"""What services say that Flower's connections carried, against proxies before the SuperLink."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import pytest

from smpcfl.aggregator import rounds_service
from smpcfl.cli.stack import Stack
from smpcfl.net.wire_bytes import FLOWER, PEER
from support.counting_proxy import CountingProxy
from support.processes import option, page

PEERS, ROUNDS = 3, 2
DIRECTIONS = ("in", "out")
RECORD_HEADER = 5  # type, version, length
LONG_BYTES = 2000
PATIENCE = 300  # looks, which are never all needed


class FlowerProxy(CountingProxy):
    """`bulk`: bytes in TLS records that are longer than any of HTTP's headers: pieces of messages.

    Without the SuperNode's questions whether there is work: there are more of them the longer it takes.
    """

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.bulk: Counter[str] = Counter()

    def watch(self, way: str) -> Callable[[bytes], None]:
        rest = bytearray()

        def see(data: bytes) -> None:
            rest.extend(data)
            while len(rest) >= RECORD_HEADER:
                size = int.from_bytes(rest[3:RECORD_HEADER], "big")
                if len(rest) < RECORD_HEADER + size:
                    return
                if size > LONG_BYTES:
                    self.bulk[way] += size
                del rest[: RECORD_HEADER + size]

        return see


class Proxies:
    """Run in a thread of their own, as the stack is waited for in the test's."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.stack = AsyncExitStack()
        self.made: dict[str, FlowerProxy] = {}

    def to(self, target: str, name: str) -> str:
        proxy = FlowerProxy(target)
        entered = self.stack.enter_async_context(proxy)
        asyncio.run_coroutine_threadsafe(entered, self.loop).result(30)
        self.made[name] = proxy
        return proxy.address


@contextmanager
def proxies() -> Iterator[Proxies]:
    found = Proxies()
    thread = threading.Thread(target=found.loop.run_forever)
    thread.start()
    try:
        yield found
    finally:
        asyncio.run_coroutine_threadsafe(found.stack.aclose(), found.loop).result(30)
        found.loop.call_soon_threadsafe(found.loop.stop)
        thread.join()


class Proxied(Stack):
    """A stack whose peers reach the SuperLink through a proxy each."""

    def __init__(self, folder: Path, between: Proxies) -> None:
        super().__init__(folder, "seeded", PEERS, ROUNDS, 1)
        self._between = between

    def start(self, name: str, service: str, settings: dict[str, object]) -> None:
        if service == "peer":
            # Before, each try would be a connection that carries nothing.
            self.wait(self.answers, 120, "the SuperLink")
            address = self._between.to(str(settings["aggregator"]), name)
            settings = {**settings, "aggregator": address}
        super().start(name, service, settings)


def shown(stack: Stack, name: str, metric: str, **labels: str) -> int:
    text = page(option(stack, name, "--metrics-port"), "/metrics")
    pairs = {"mode": "seeded", **labels}
    given = ",".join(f'{key}="{value}"' for key, value in sorted(pairs.items()))
    found = re.search(rf"^{metric}{{{given}}} (\S+)$", text, re.MULTILINE)
    assert found is not None, f"no {metric}{{{given}}} in:\n{text}"
    return int(float(found[1]))


def differs(
    stack: Stack, name: str, direction: str, between: Iterable[FlowerProxy]
) -> dict[str, int] | None:
    """How `name` and the proxies differ on Flower's connections; None if they do not.

    TCP counts a SYN and a FIN as a byte each. On the first connection the agent makes the SuperNode's key
    known, and closes it before anyone looks whose it is.
    """
    way = {"in": "down", "out": "up"}[direction]
    if name == "aggregator":
        way = {"down": "up", "up": "down"}[way]
    passed = [one for proxy in between for one in proxy.passed]
    first = sum(getattr(proxy.passed[0], way) for proxy in between)
    least = sum(getattr(one, way) for one in passed) - first
    found = shown(stack, name, "smpcfl_wire_bytes_total", connection=FLOWER, direction=direction)
    passed = [one for proxy in between for one in proxy.passed]  # more went on since
    most = sum(getattr(one, way) for one in passed) + 2 * len(passed)
    return None if least <= found <= most else {"least": least, "found": found, "most": most}


@pytest.mark.processes
def test_flower_s_bytes_are_those_that_a_proxy_passes_on(tmp_path: Path) -> None:
    with proxies() as between, Proxied(tmp_path, between) as stack:
        stack.wait(lambda: len(rounds_service.read(stack.records)) == ROUNDS, 300, "training")
        for direction in DIRECTIONS:
            pairs: list[tuple[str, list[FlowerProxy]]] = [
                *((name, [proxy]) for name, proxy in between.made.items()),
                ("aggregator", list(between.made.values())),  # and nothing of its ServerApp's
            ]
            for name, those in pairs:
                # gRPC and the proxy are a moment behind one another, but not for long.
                for _ in range(PATIENCE):
                    if (found := differs(stack, name, direction, those)) is None:
                        break
                    time.sleep(0.1)
                assert found is None, (name, direction, found)
        for name, proxy in between.made.items():
            for direction, way in zip(DIRECTIONS, ("down", "up"), strict=True):
                payload = shown(
                    stack, name, "smpcfl_bytes_total", channel="flower", direction=direction
                )
                bulk, total = proxy.bulk[way], sum(getattr(one, way) for one in proxy.passed)
                print(f"{name} {direction}: payload {payload}, bulk {bulk}, all {total}")
                assert 0.97 < payload / bulk < 1.03
                assert payload < total
                for channels, connection in (("p2p", "unmask"), PEER), (("flower",), FLOWER):
                    said = [
                        shown(stack, name, "smpcfl_bytes_total", channel=c, direction=direction)
                        for c in channels
                    ]
                    wire = shown(
                        stack,
                        name,
                        "smpcfl_wire_bytes_total",
                        connection=connection,
                        direction=direction,
                    )
                    assert 0 < sum(said) < wire
        # What the ServerApp, a process of each run, measured of its calls to peers.
        ended = {"method": "Unmask.out", "outcome": "ok"}
        calls = shown(stack, "aggregator", "smpcfl_rpc_duration_seconds_count", **ended)
        assert 2 * ROUNDS <= calls <= PEERS * ROUNDS
        for direction in DIRECTIONS:
            labels = {"channel": "unmask", "direction": direction}
            said = shown(stack, "aggregator", "smpcfl_bytes_total", **labels)
            labels = {"connection": PEER, "direction": direction}
            assert 0 < said < shown(stack, "aggregator", "smpcfl_wire_bytes_total", **labels)
