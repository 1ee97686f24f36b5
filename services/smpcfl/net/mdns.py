"""mDNS: peers announce `_smpcfl._tcp.local.` and listen for each other.

It shows where a peer may be, never who it is: the certificate proves that.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Collection
from typing import Any

from zeroconf import IPVersion, NonUniqueNameException, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from ..base.config import ConfigError
from ..base.log_events import LogEvent, about
from ..base.metrics import Metrics
from .certificates import is_name

SERVICE = "_smpcfl._tcp.local."
_RESOLVE_MS = 3000
_RETRY_S = 2.0
_MOST = 4096  # names that are followed: anybody in the network may announce any number

log = logging.getLogger("smpcfl.discovery")


class Discovery:
    """`found` maps peer ids to host:port, kept up to date; `on_change` is called with each id."""

    def __init__(
        self,
        interface: str,
        metrics: Metrics,
        on_change: Callable[[str], None] = lambda peer: None,
    ) -> None:
        self.found: dict[str, str] = {}
        self._interface = interface
        self._metrics = metrics
        self._on_change = on_change
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._resolving: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Listens from now on. ConfigError for an interface that this machine does not have."""
        self._metrics.peers_discovered.set(0, via="mdns")
        if self._interface == "off":
            log.info(
                "mDNS is off: peers are found by the registry", extra=about(LogEvent.MDNS_SILENT)
            )
            return
        options: dict[str, Any] = {"ip_version": IPVersion.V4Only}
        if self._interface != "all":
            options["interfaces"] = [self._interface]
        try:
            self._zeroconf = AsyncZeroconf(**options)
        except OSError as error:
            raise ConfigError(
                f"mDNS cannot use interface {self._interface!r} ({error}): give one of this machine's"
                " addresses with --mdns, or --mdns off to rely on the registry"
            ) from error
        self._browser = AsyncServiceBrowser(
            self._zeroconf.zeroconf, SERVICE, handlers=[self._changed]
        )

    async def announce(self, peer: str, address: str, port: int) -> None:
        """Announces this peer at that IPv4 address, unless somebody on the link answers to its id."""
        if self._zeroconf is None:
            return
        info = AsyncServiceInfo(
            SERVICE,
            f"{peer}.{SERVICE}",
            port=port,
            addresses=[socket.inet_aton(address)],
            properties={"peer": peer, "version": "1"},
            server=f"{peer}.local.",
        )
        try:
            await self._zeroconf.async_register_service(info, allow_name_change=False, strict=False)
        except NonUniqueNameException:
            # Who it is the certificate says: whoever takes a name on the link keeps nobody out.
            log.warning(
                "mDNS: another host on this network is announced as %s, so this peer is not: others find it"
                " by the registry. If it is yours, give one of them another --peer-id, or --mdns off",
                peer,
                extra=about(LogEvent.MDNS_NAME_TAKEN, peer=peer),
            )

    def hears(self, others: Collection[str]) -> bool:
        """Whether it is off, there is nobody to hear, or one of `others` is heard."""
        return self._zeroconf is None or not others or any(name in self.found for name in others)

    async def restart(self) -> None:
        """After a change of network: with new sockets, and a fresh look at who is there."""
        await self.close()
        self.found.clear()
        await self.start()

    async def close(self) -> None:
        """Says goodbye for what was announced."""
        for peer in list(self._resolving):
            self._stop_resolving(peer)
        if self._browser is not None:
            await self._browser.async_cancel()
            self._browser = None
        if self._zeroconf is not None:
            await self._zeroconf.async_unregister_all_services()
            await self._zeroconf.async_close()
            self._zeroconf = None

    def _changed(
        self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:
        peer = name.removesuffix("." + SERVICE)
        self._stop_resolving(peer)
        if state_change is ServiceStateChange.Removed:
            if self.found.pop(peer, None):
                self._note(peer)
            return
        if not is_name(peer):
            return
        if peer not in self.found and len(self.found) + len(self._resolving) >= _MOST:
            log.warning(
                "mDNS: more than %d names are announced, %s is left out",
                _MOST,
                peer,
                extra=about(LogEvent.MDNS_FAILED),
            )
            return
        self._resolving[peer] = asyncio.ensure_future(self._resolve(zeroconf, name, peer))

    def _stop_resolving(self, peer: str) -> None:
        task = self._resolving.pop(peer, None)
        if task is not None:
            task.cancel()

    async def _resolve(self, zeroconf: Zeroconf, name: str, peer: str) -> None:
        """Until the address is there, or the announcement is gone."""
        while True:
            try:
                info = AsyncServiceInfo(SERVICE, name)
                known = await info.async_request(zeroconf, _RESOLVE_MS)
                addresses = info.parsed_addresses(IPVersion.V4Only)
                if known and addresses and info.port:
                    break
                log.debug("mDNS: no address of %s yet", peer)
            except Exception as error:
                log.warning(
                    "mDNS: no address of %s (%r); trying again",
                    peer,
                    error,
                    extra=about(LogEvent.MDNS_FAILED),
                )
            await asyncio.sleep(_RETRY_S)
        self.found[peer] = f"{addresses[0]}:{info.port}"
        self._note(peer)

    def _note(self, peer: str) -> None:
        self._metrics.peers_discovered.set(len(self.found), via="mdns")
        self._on_change(peer)
