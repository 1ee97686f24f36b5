"""Where this peer is, for the others: its entry on the registry's roster and its mDNS announcement."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

import grpc.aio

from smpc.v1 import registry_pb2 as pb

from .. import __version__
from ..base.config import ConfigError, Settings
from ..base.host_port import joined
from ..base.log_events import LogEvent, about
from ..base.waiting import wait_for
from ..net import rpc
from ..net.addresses import Attachment, attachment, on_link, own_address, way_to
from ..net.certificates import IdentityError
from ..net.directory import Directory
from ..net.mdns import Discovery
from ..protocol.encoding import VERSION
from ..protocol.errors import Reason
from .peer_draws import PeerDraws

log = logging.getLogger("smpcfl.peer")
HEARTBEAT_S = 2.0
# In a row in which mDNS hears nobody: half a minute, and announcements take a second.
_SILENT_BEATS = 15


class Presence:
    """Keeps both up to date, also where the network is taken away and another one given."""

    def __init__(
        self,
        settings: Settings,
        name: str,
        port: int,
        directory: Directory,
        discovery: Discovery,
        draws: PeerDraws,
        attached: Callable[[], Attachment | None] = attachment,
    ) -> None:
        self._settings = settings
        self._name = name
        self._port = port
        self._directory = directory
        self._discovery = discovery
        self._draws = draws
        self._look = attached
        self._attached = attached()
        self._silent = 0  # heartbeats in which mDNS heard nobody
        self._registered = ""  # the address that the registry knows
        self._given, self._given_port = settings.advertised()
        self._host = self._given or own_address(settings.registry)

    @property
    def address(self) -> str:
        """Where others are told to call; behind a NAT its port is not the one that this peer listens on."""
        return joined(self._host, self._given_port or self._port)

    async def announce(self) -> None:
        """By mDNS: where this peer is on the link, which no NAT is in between."""
        if self._settings.mdns == "off":
            return
        here = await asyncio.to_thread(on_link, self._given, self._settings.registry)
        if here is None:
            log.warning(
                "mDNS is for IPv4: this peer has no IPv4 address towards the registry, and is not announced:"
                " others find it by the registry; if that is right, --mdns off",
                extra=about(LogEvent.MDNS_FAILED),
            )
            return
        await self._discovery.announce(self._name, here, self._port)

    async def register(self, stop: asyncio.Event) -> int | None:
        """The index of the data slice, once the registry answers; None if stopped before.

        A peer that had one before goes on with that while there is no registry. IdentityError if the
        registry refuses.
        """
        while not stop.is_set():
            try:
                return await self._register()
            except grpc.aio.AioRpcError as error:
                if rpc.reason_of(error) is not None:
                    raise IdentityError(
                        f"the registry at {self._settings.registry} refused {self._name} at"
                        f" {self.address}: {error.details()}"
                    ) from error
                kept = self._directory.kept_index
                if kept is not None:
                    log.warning(
                        "no registry (%s): going on as before",
                        error.details(),
                        extra=about(LogEvent.REGISTRY_AWAY),
                    )
                    return kept
                log.info(
                    "waiting for the registry: %s", error.details(), extra=about(LogEvent.WAITING)
                )
                await wait_for(stop, 1.0)
        return None

    async def _register(self) -> int:
        address = self.address
        metrics_address = joined(self._host, self._settings.metrics_port)
        reply = await self._directory.registry.Register(
            pb.RegisterRequest(
                address=address,
                metrics_address=metrics_address,
                software=__version__,
                protocol=VERSION,
            ),
            timeout=5.0,
        )
        await self._directory.lookup()
        self._registered = address
        return int(reply.index)

    async def keep(self, stop: asyncio.Event) -> None:
        """Heartbeats; registers again where the registry has forgotten this peer, or it has moved."""
        reachable = True
        while not stop.is_set():
            await self._follow_network()
            self._watch_mdns()
            request = pb.HeartbeatRequest(roster_version=self._directory.version)
            try:
                if self._registered != self.address:
                    await self._register()
                asked = time.time()
                reply = await self._directory.registry.Heartbeat(request, timeout=5.0)
                self._directory.clock.compare(reply.time_ms, asked)
                self._directory.take(reply)
                await self._draws.follow()
                if not reachable:
                    log.info("the registry is back", extra=about(LogEvent.REGISTRY_BACK))
                reachable = True
            except grpc.aio.AioRpcError as error:
                if rpc.reason_of(error) is Reason.NOT_REGISTERED:
                    self._registered = ""
                    continue
                if reachable:
                    log.warning(
                        "no registry (%s): rounds go on without it",
                        error.details(),
                        extra=about(LogEvent.REGISTRY_AWAY),
                    )
                reachable = False
            await wait_for(stop, HEARTBEAT_S)

    def _watch_mdns(self) -> None:
        """Says once that multicast does not pass here, as between networks and in an overlay."""
        others = self._directory.roster.keys() - {self._name}
        self._silent = 0 if self._discovery.hears(others) else self._silent + 1
        if self._silent == _SILENT_BEATS:
            log.warning(
                "mDNS hears none of the %d other peers on the registry's roster, so multicast does not pass"
                " between you: they are found by the registry. Where that is as it should be, set"
                " SMPCFL_MDNS=off",
                len(others),
                extra=about(LogEvent.MDNS_SILENT),
            )

    async def _follow_network(self) -> None:
        """After a change of network mDNS needs new sockets, and others the new address."""
        attached = self._look()
        if attached is None or attached == self._attached:
            return
        try:
            if not self._given:
                self._host = await asyncio.to_thread(way_to, self._settings.registry)
            log.info(
                "the network has changed: this peer is at %s now",
                self.address,
                extra=about(LogEvent.NETWORK_CHANGED),
            )
            await self._discovery.restart()
            await self.announce()
            self._attached = attached
        except (ConfigError, OSError) as error:
            log.warning(
                "the network has changed, and this peer does not know its place yet: %s",
                error,
                extra=about(LogEvent.MDNS_FAILED),
            )

    async def goodbye(self) -> None:
        """On mDNS and at the registry."""
        with contextlib.suppress(grpc.aio.AioRpcError):
            await self._directory.registry.Goodbye(pb.GoodbyeRequest(), timeout=1.0)
        await self._discovery.close()
