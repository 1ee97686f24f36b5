"""Which of the machine's connections are a service's own, and what they carried: `smpcfl_wire_bytes_total`.

gRPC and Flower do not tell, so the kernel is asked: it counts TLS, HTTP and acknowledgements of gRPC as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import TypeAlias

from ..base.config import Settings
from ..base.host_port import split
from ..base.metrics import DIRECTIONS, Metrics
from ..base.tcp_sockets import TcpSocket, TcpSockets, inodes
from ..base.waiting import wait_for
from .directory import Directory

log = logging.getLogger("smpcfl.wire")
PEER, FLOWER, REGISTRY = "peer", "flower", "registry"
_LOOK_S = 2.0  # below what Flower's and our clients keep an idle connection for

Ports: TypeAlias = Mapping[int, str]
"""Which connection it is, by port."""


def own_process() -> list[int]:
    return [os.getpid()]


@dataclass
class _Followed:
    connection: str | None  # None: not ours, or not to be counted
    sent: int = 0
    received: int = 0


class WireBytes:
    """`count(direction, connection, bytes)` hears what was carried since the last look.

    Ours are the connections to the ports that we are `listening` at, and those that the processes `dialling`
    made to the ports `dialled`. What comes from the processes `inside` is this service talking to itself.

    A connection is counted to its end. Missed is one that we make and close between two looks, and, with
    `inside`, one from this machine. OSError where the system does not tell.
    """

    def __init__(
        self,
        count: Callable[[str, str, int], None],
        *,
        listening: Ports,
        dialled: Callable[[], Ports] = dict,
        dialling: Callable[[], Iterable[int]] = own_process,
        inside: Callable[[], Iterable[int]] | None = None,
    ) -> None:
        self._count = count
        self._listening = listening
        self._dialled = dialled
        self._dialling = dialling
        self._inside = inside
        self._followed: dict[int, _Followed] = {}  # by cookie
        self._lock = Lock()  # whoever scrapes looks from another thread
        self._sockets = TcpSockets()
        try:
            self._look()
        except OSError:
            self._sockets.close()
            raise

    def look(self) -> None:
        """Counts up to now. What cannot be read now, the next look counts."""
        try:
            with self._lock:
                self._look()
        except OSError as error:
            log.debug("the kernel does not tell what connections carried: %s", error)

    def close(self) -> None:
        self._sockets.close()

    def _look(self) -> None:
        living = list(self._sockets.living())
        ended, complete = self._sockets.ended()
        self._follow(living)
        for one in ended:
            if one.cookie not in self._followed and one.local[1] in self._listening:
                # Whose the other end was, nobody can say any more.
                maybe_inside = self._inside is not None and one.local[0] == one.remote[0]
                name = None if maybe_inside else self._listening[one.local[1]]
                self._followed[one.cookie] = _Followed(name)
        for one in (*living, *ended):
            self._take(one)
        for one in ended:
            self._followed.pop(one.cookie, None)
        if not complete:
            there = {one.cookie for one in living}
            self._followed = {key: kept for key, kept in self._followed.items() if key in there}

    def _follow(self, living: list[TcpSocket]) -> None:
        """Settles whose those are that are new. It costs more than the look, so it is done once for each."""
        dialled = self._dialled()
        new = [one for one in living if one.cookie not in self._followed]
        accepted = [one for one in new if one.local[1] in self._listening]
        made = [
            one for one in new if one.local[1] not in self._listening and one.remote[1] in dialled
        ]
        if accepted:
            within = inodes(self._inside()) if self._inside is not None else set()
            inner = {(one.remote, one.local) for one in living if one.inode in within}
            for one in accepted:
                alien = (one.local, one.remote) in inner
                name = None if alien else self._listening[one.local[1]]
                self._followed[one.cookie] = _Followed(name)
        if made:
            ours = inodes(self._dialling())
            for one in made:
                name = dialled[one.remote[1]] if one.inode in ours else None
                self._followed[one.cookie] = _Followed(name)

    def _take(self, one: TcpSocket) -> None:
        known = self._followed.get(one.cookie)
        if known is None or known.connection is None:
            return
        if one.sent > known.sent:
            self._count("out", known.connection, one.sent - known.sent)
        if one.received > known.received:
            self._count("in", known.connection, one.received - known.received)
        known.sent, known.received = one.sent, one.received


async def keep_counted(
    metrics: Metrics,
    stop: asyncio.Event,
    connections: Iterable[str],
    *,
    listening: Ports,
    dialled: Callable[[], Ports] = dict,
    dialling: Callable[[], Iterable[int]] = own_process,
    inside: Callable[[], Iterable[int]] | None = None,
) -> None:
    """Until `stop`: at each scrape, and in between often enough to see each connection. See WireBytes.

    `connections`: those that this service has, shown as 0 until then.
    """

    def count(direction: str, connection: str, number: int) -> None:
        metrics.wire_bytes.inc(number, direction=direction, connection=connection)

    try:
        wire = WireBytes(
            count, listening=listening, dialled=dialled, dialling=dialling, inside=inside
        )
    except OSError as error:
        log.info(
            "no smpcfl_wire_bytes_total: this system does not tell the bytes of TCP (%s)", error
        )
        return
    metrics.wire_bytes.start_at_zero(direction=DIRECTIONS, connection=connections)
    metrics.before_scrape.append(wire.look)
    try:
        while not stop.is_set():
            await wait_for(stop, _LOOK_S)
            wire.look()
    finally:
        metrics.before_scrape.remove(wire.look)
        wire.close()


def port_of(address: str) -> int:
    return split(address)[1]


def registry_of(settings: Settings) -> dict[int, str]:
    """Its ports."""
    return {port_of(address): REGISTRY for address in (settings.registry, settings.enrolment)}


def peers_of(directory: Directory) -> dict[int, str]:
    """The ports at which peers are known to be."""
    addresses = {*list(directory.by_mdns.values()), *list(directory.by_registry.values())}
    found = {}
    for address in addresses:
        with contextlib.suppress(ValueError):  # what an older registry let a peer say
            found[port_of(address)] = PEER
    return found
