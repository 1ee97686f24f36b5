"""How a peer tells where it is: at the registry and by mDNS, when either of them or the network changes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from typing import Any, cast

import grpc.aio
import pytest

from smpc.v1 import registry_pb2 as pb
from smpcfl import __version__
from smpcfl.base.config import Settings
from smpcfl.net.addresses import Attachment
from smpcfl.net.certificates import IdentityError
from smpcfl.net.clocks import ClockWatch
from smpcfl.peer import presence
from smpcfl.peer.presence import Presence
from smpcfl.protocol.encoding import VERSION
from smpcfl.protocol.errors import Reason

UNAVAILABLE = (grpc.StatusCode.UNAVAILABLE, ())
FORGOTTEN = (
    grpc.StatusCode.FAILED_PRECONDITION,
    (("smpcfl-reason", Reason.NOT_REGISTERED.value),),
)


def at(address: str, interface: int = 1) -> Attachment:
    return frozenset({(interface, address)})


class World:
    """Registry, mDNS and network as one peer sees them; a peer stops after `beats` heartbeats."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stop = asyncio.Event()
        self.events: list[str] = []
        self.failures: list[tuple[Any, Any]] = []
        self.attached: Attachment | None = at("10.0.0.2")
        self.kept_index: int | None = None
        self.time_off_s = 0.0
        self.version = 1
        self.roster: dict[str, bool] = {"a": False}
        self.heard = True
        self.registry = self
        self.clock = ClockWatch("the registry")
        self.beats = 0
        monkeypatch.setattr(presence, "HEARTBEAT_S", 0.0)
        self.link: str | None = None  # where the link has the peer, if not at its own address
        for name in ("own_address", "way_to"):
            monkeypatch.setattr(presence, name, lambda towards: self._own())
        monkeypatch.setattr(presence, "on_link", lambda host, towards: self.link or self._own())
        self.settings()

    def settings(self, **given: Any) -> None:
        """A peer with these."""
        self.presence = Presence(
            Settings(**given), "a", 9300, *[cast(Any, self)] * 3, lambda: self.attached
        )

    def _own(self) -> str:
        if self.attached is None:
            raise OSError("Network is unreachable")
        ((_, address),) = self.attached
        return address

    async def keep(self, beats: int) -> None:
        self.beats = beats
        self.stop.clear()
        await self.presence.keep(self.stop)

    def _fail(self) -> None:
        if self.failures:
            status, metadata = self.failures.pop(0)
            raise grpc.aio.AioRpcError(status, cast(Any, ()), cast(Any, metadata), "no")

    async def follow(self) -> None:
        """As the peer's draws do."""

    async def Register(self, request: pb.RegisterRequest, **_: float) -> pb.RegisterReply:
        self._fail()
        assert (request.software, request.protocol) == (__version__, VERSION)
        self.events.append(f"register {request.address}")
        return pb.RegisterReply(index=4)

    async def Heartbeat(self, request: pb.HeartbeatRequest, **_: float) -> pb.Roster:
        self.beats -= 1
        if self.beats <= 0:
            self.stop.set()
        self._fail()
        self.events.append("heartbeat")
        return pb.Roster(unchanged=True, time_ms=int((time.time() + self.time_off_s) * 1000))

    async def lookup(self) -> None: ...

    def take(self, roster: pb.Roster) -> None: ...

    def hears(self, others: Collection[str]) -> bool:
        assert "a" not in others
        return self.heard or not others

    async def restart(self) -> None:
        self.events.append("mDNS restarts")

    async def announce(self, name: str, host: str, port: int) -> None:
        self.events.append(f"announce {host}:{port}")


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


async def test_a_peer_registers_once_and_sends_heartbeats(world: World) -> None:
    assert await world.presence.register(world.stop) == 4
    await world.keep(2)
    assert world.events == ["register 10.0.0.2:9300", "heartbeat", "heartbeat"]


async def test_a_registry_that_has_forgotten_the_peer_is_told_at_once(world: World) -> None:
    await world.presence.register(world.stop)
    world.failures.append(FORGOTTEN)
    await world.keep(2)
    assert world.events == ["register 10.0.0.2:9300"] * 2 + ["heartbeat"]


async def test_a_peer_that_is_moved_says_where_it_is(world: World) -> None:
    await world.presence.register(world.stop)
    world.attached = None
    await world.keep(1)
    world.attached = at("10.0.0.9", 2)
    await world.keep(2)
    assert world.events == [
        "register 10.0.0.2:9300",
        "heartbeat",
        "mDNS restarts",
        "announce 10.0.0.9:9300",
        "register 10.0.0.9:9300",
        "heartbeat",
        "heartbeat",
    ]


async def test_the_new_address_is_told_once_the_registry_is_back(world: World) -> None:
    await world.presence.register(world.stop)
    world.attached = at("10.0.0.9", 2)
    world.failures += [UNAVAILABLE, UNAVAILABLE]
    await world.keep(1)
    assert world.events[-2:] == ["register 10.0.0.9:9300", "heartbeat"]


async def test_mdns_gets_new_sockets_for_a_new_interface_with_the_old_address(world: World) -> None:
    await world.presence.register(world.stop)
    world.attached = at("10.0.0.2", 2)
    await world.keep(1)
    assert world.events == [
        "register 10.0.0.2:9300",
        "mDNS restarts",
        "announce 10.0.0.2:9300",
        "heartbeat",
    ]


async def test_a_peer_that_starts_while_there_is_no_registry_keeps_its_slice(world: World) -> None:
    world.kept_index = 7
    world.failures += [UNAVAILABLE]
    assert await world.presence.register(world.stop) == 7
    await world.keep(1)
    assert world.events == ["register 10.0.0.2:9300", "heartbeat"]


async def test_a_peer_without_a_slice_waits_for_the_registry(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = []

    async def wait(stop: asyncio.Event, seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(presence, "wait_for", wait)
    world.failures += [UNAVAILABLE, UNAVAILABLE]
    assert await world.presence.register(world.stop) == 4
    assert len(waits) == 2


async def test_a_refusal_is_said_and_not_waited_out(world: World) -> None:
    world.kept_index = 7
    refused = (("smpcfl-reason", Reason.MALFORMED.value),)
    world.failures += [(grpc.StatusCode.FAILED_PRECONDITION, refused)]
    with pytest.raises(IdentityError, match=r"registry:9200 refused a at 10\.0\.0\.2:9300: no"):
        await world.presence.register(world.stop)


async def test_two_minutes_of_wrong_clock_are_named_with_the_first_heartbeat_and_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.presence.register(world.stop)
    world.time_off_s = 150.0
    await world.keep(3)
    (said,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "s behind, compared to that of the registry: run NTP" in said.getMessage()


async def test_that_mdns_hears_nobody_is_said_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.heard = False
    await world.keep(40)
    assert "mDNS hears" not in caplog.text, "alone on the roster"
    world.roster |= {"b": False, "c": False}
    await world.keep(10)
    world.heard = True
    await world.keep(1)
    world.heard = False
    await world.keep(10)
    assert "mDNS hears" not in caplog.text, "not so long in a row"
    await world.keep(40)
    assert caplog.text.count("mDNS hears none of the 2 other peers") == 1
    assert "SMPCFL_MDNS=off" in caplog.text


async def test_behind_a_nat_others_are_told_its_port_and_the_link_the_own_one(world: World) -> None:
    world.settings(advertise="peer.example.org:19300")
    await world.presence.announce()
    await world.presence.register(world.stop)
    assert world.events == ["announce 10.0.0.2:9300", "register peer.example.org:19300"]


async def test_what_was_given_stays_when_the_network_changes(world: World) -> None:
    world.settings(advertise="peer.example.org:19300")
    await world.presence.register(world.stop)
    world.attached = at("10.0.0.9", 2)
    await world.keep(1)
    assert world.events == [
        "register peer.example.org:19300",
        "mDNS restarts",
        "announce 10.0.0.9:9300",
        "heartbeat",
    ]


async def test_an_ipv6_address_is_registered_in_brackets_and_not_announced(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world.attached = at("2001:db8::2")
    monkeypatch.setattr(presence, "on_link", lambda host, towards: None)
    world.settings()
    await world.presence.announce()
    await world.presence.register(world.stop)
    assert world.events == ["register [2001:db8::2]:9300"]
    assert "others find it by the registry" in caplog.text
    caplog.clear()
    world.settings(mdns="off")
    await world.presence.announce()
    assert not caplog.text


async def test_an_address_that_is_not_usable_yet_is_looked_for_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new IPv6 address is there a second before the system sends from it."""
    await world.presence.register(world.stop)
    world.attached = at("10.0.0.9", 2)
    usable = presence.way_to
    waits = iter([OSError("Cannot assign requested address")])

    def way_to(towards: str) -> str:
        if (error := next(waits, None)) is not None:
            raise error
        return usable(towards)

    monkeypatch.setattr(presence, "way_to", way_to)
    await world.keep(2)
    assert world.events[1:] == [
        "heartbeat",
        "mDNS restarts",
        "announce 10.0.0.9:9300",
        "register 10.0.0.9:9300",
        "heartbeat",
    ]
