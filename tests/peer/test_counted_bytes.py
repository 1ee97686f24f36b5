"""What peers say that they sent, as payload and on the wire, against what others count of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from smpcfl.net import rpc, wire_bytes
from smpcfl.net.wire_bytes import PEER, WireBytes, peers_of, port_of
from smpcfl.protocol.signing import AGGREGATOR
from smpcfl.protocol.ticket import ADDITIVE, SEEDED
from support.counting_proxy import CountingProxy
from support.deployed import LONG_S, Deployed

pytestmark = pytest.mark.sockets

DIRECTIONS = ("in", "out")
CLOSING = 100  # bytes with which HTTP/2 and TLS take leave, as nobody may look any more
MESSAGES: Counter[tuple[str, str, str]] = Counter()  # bytes, by caller, callee and direction


class CountingChannel:
    """A gRPC channel of `caller` to `callee` that counts what it is given to send, and what it got."""

    def __init__(self, channel: Any, caller: str, callee: str) -> None:
        self._channel = channel
        self._ends = caller, callee
        self.close = channel.close

    def unary_unary(self, *arguments: Any, **options: Any) -> Any:
        return self._channel.unary_unary(*arguments, **self._counted(options))

    def unary_stream(self, *arguments: Any, **options: Any) -> Any:
        return self._channel.unary_stream(*arguments, **self._counted(options))

    def stream_unary(self, *arguments: Any, **options: Any) -> Any:
        return self._channel.stream_unary(*arguments, **self._counted(options))

    def _counted(self, options: dict[str, Any]) -> dict[str, Any]:
        write, read = options["request_serializer"], options["response_deserializer"]

        def serialise(message: Any) -> bytes:
            data: bytes = write(message)
            MESSAGES[*self._ends, "out"] += 5 + len(data)  # flag and length, as gRPC writes them
            return data

        def parse(data: bytes) -> Any:
            MESSAGES[*self._ends, "in"] += 5 + len(data)
            return read(data)

        return {**options, "request_serializer": serialise, "response_deserializer": parse}


@pytest.fixture(autouse=True)
def counted_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    make: Callable[..., Any] = rpc.channel
    monkeypatch.setattr(
        rpc,
        "channel",
        lambda own, address, role, name, *more: CountingChannel(
            make(own, address, role, name, *more), own.name, name
        ),
    )
    MESSAGES.clear()


class Measured:
    """A deployment in which each reaches each other through a proxy of its own."""

    def __init__(self, net: Deployed, stack: AsyncExitStack) -> None:
        self.net = net
        self._stack = stack
        self.proxies: dict[tuple[str, str], CountingProxy] = {}  # by caller and callee
        self.wires: list[WireBytes] = []

    async def start(self) -> None:
        for caller in (*self.net.cohort, AGGREGATOR):
            for callee, address in self.net.addresses().items():
                proxy = await self._stack.enter_async_context(CountingProxy(address))
                self.proxies[caller, callee] = proxy
        for name, peer in self.net.peers.items():
            peer.directory.by_registry = self.seen_by(name)
            stop = asyncio.Event()
            counting = asyncio.create_task(
                wire_bytes.keep_counted(
                    peer.metrics,
                    stop,
                    (PEER,),
                    listening={port_of(peer.address): PEER},
                    dialled=lambda directory=peer.directory: peers_of(directory),  # type: ignore[misc]
                )
            )
            self._stack.push_async_callback(asyncio.wait, {counting})
            self._stack.callback(stop.set)
        await asyncio.sleep(0)  # they begin

    def seen_by(self, caller: str) -> dict[str, str]:
        return {callee: self.proxies[caller, callee].address for callee in self.net.cohort}

    async def round(self, mode: str) -> None:
        await self.net.begin(self.net.make_ticket(mode=mode, body=100_000))
        await self.net.upload()
        state = self.net.received()
        if mode == SEEDED:
            async with self.net.unmasking() as unmasking:
                unmasking.directory.by_registry = self.seen_by(AGGREGATOR)
                await unmasking.run(state)
        state.total()

    def shown(self, name: str, metric: str, **labels: str) -> int:
        """As whoever scrapes this peer reads it."""
        registry = self.net.peers[name].metrics.registry
        return int(registry.get_sample_value(metric, {"mode": "seeded", **labels}) or 0)

    def carried(self, name: str, direction: str) -> tuple[int, int]:
        """What the proxies passed on from or to this peer, and in how many connections."""
        to = [p for (_, callee), p in self.proxies.items() if callee == name]
        by = [p for (caller, _), p in self.proxies.items() if caller == name]
        if direction == "out":
            to, by = by, to
        found = sum(proxy.up for proxy in to) + sum(proxy.down for proxy in by)
        return found, sum(len(proxy.passed) for proxy in (*to, *by))

    def said(self, name: str, direction: str) -> dict[str, int]:
        """Payload as the metric has it, by channel."""
        return {
            channel: self.shown(name, "smpcfl_bytes_total", direction=direction, channel=channel)
            for channel in ("p2p", "unmask")
        }

    def messages(self, name: str, direction: str) -> dict[str, int]:
        """Payload as those who called counted it, by channel."""
        other = "in" if direction == "out" else "out"
        asked = sum(MESSAGES[name, peer, direction] for peer in self.net.cohort)
        answered = sum(MESSAGES[peer, name, other] for peer in self.net.cohort)
        return {"p2p": asked + answered, "unmask": MESSAGES[AGGREGATOR, name, other]}

    def off(self) -> dict[tuple[str, str], Any]:
        """Whose metrics are not what others counted: payload, and on the wire the most and the least.

        TCP counts a SYN and a FIN as a byte each.
        """
        found: dict[tuple[str, str], Any] = {}
        for name, direction in product(self.net.cohort, DIRECTIONS):
            labels = {"direction": direction, "connection": PEER}
            wire = self.shown(name, "smpcfl_wire_bytes_total", **labels)
            least, connections = self.carried(name, direction)
            most = least + 2 * connections
            payload = self.said(name, direction), self.messages(name, direction)
            if payload[0] != payload[1] or not least <= wire <= most:
                found[name, direction] = payload, least, wire, most
        return found

    async def settle(self) -> None:
        """Until all that is under way has arrived: gRPC acknowledges what it got a little later."""
        latest = asyncio.get_running_loop().time() + LONG_S
        while found := self.off():
            assert asyncio.get_running_loop().time() < latest, found
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("mode", [SEEDED, ADDITIVE])
async def test_payload_and_wire_are_what_others_count(tmp_path: Path, mode: str) -> None:
    async with AsyncExitStack() as stack:
        net = await stack.enter_async_context(Deployed(tmp_path, 3))
        measured = Measured(net, stack)
        await measured.start()
        await measured.round(mode)
        await measured.settle()
        for name, direction in product(net.cohort, DIRECTIONS):
            payload = measured.said(name, direction)
            carried, _ = measured.carried(name, direction)
            print(f"{name} {direction}: {payload} of {carried} bytes on the wire")
            assert payload["p2p"] > 0
            assert (payload["unmask"] > 0) == (mode == SEEDED)
            assert sum(payload.values()) < carried
        told = [event.calls for event in net.events]
        asked = [proxy for (caller, _), proxy in measured.proxies.items() if caller == AGGREGATOR]
        connections = sum(len(proxy.passed) for proxy in asked)
        for direction, way in zip(DIRECTIONS, ("down", "up"), strict=True):
            said = sum(getattr(calls, f"wire_{direction}") for calls in told)
            carried = sum(getattr(proxy, way) for proxy in asked)
            print(f"the ServerApp {direction}: {said} of {carried}, {connections} connections")
            assert carried - CLOSING * connections <= said <= carried + 2 * connections
        assert len(told) == (1 if mode == SEEDED else 0)
