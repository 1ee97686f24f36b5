"""Where everyone is and which certificate everyone has, from mDNS and from the registry."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from smpc.v1 import registry_pb2 as pb
from smpc.v1 import registry_pb2_grpc as pb_grpc

from .. import __version__
from ..base.files import write_private
from ..base.log_events import LogEvent, about
from ..base.metrics import Metrics
from ..protocol.draw import may_be_cut
from ..protocol.encoding import VERSION
from ..protocol.signing import REGISTRY
from . import rpc, versions
from .certificates import Identity, IdentityError, Members, Role
from .clocks import ClockWatch
from .versions import Spoken

log = logging.getLogger("smpcfl.directory")
_CALL_S = 5.0
_KEPT = 4096


class Directory:
    """The last roster is kept on disk: a restart finds the others while the registry is down."""

    def __init__(
        self, own: Identity, registry: str, cache: Path, metrics: Metrics | None = None
    ) -> None:
        self.members = Members(own.ca)
        self.by_mdns: dict[str, str] = {}
        self.by_registry: dict[str, str] = {}
        self.roster: dict[
            str, bool
        ] = {}  # as the registry last told it: whether it saw the peer by mDNS
        self.registered = 0  # peers in the registry's last reply, none in the kept roster
        self.version = 0
        self.clock = ClockWatch(f"the registry at {registry}")
        self.draw = 0  # number of the newest draw that the registry told of
        self._peers = 0  # on the last roster, kept or new
        self._group_size = 0
        self._aggregator: Spoken | None = None  # if it speaks another protocol
        self.kept_index: int | None = None  # this peer's data slice in the kept roster
        self._name = own.name
        self._metrics = metrics
        self._cache = cache
        self._kept = b""
        self._own = own
        self._address = registry
        self._connect()
        self._load()

    def _connect(self) -> None:
        self._channel = rpc.channel(self._own, self._address, Role.REGISTRY, REGISTRY)
        self.registry = pb_grpc.RegistryStub(self._channel)

    async def reconnect(self) -> None:
        """So that the registry sees a certificate that was renewed."""
        old = self._channel
        self._connect()
        await old.close(_CALL_S)

    def addresses(self, peer: str) -> list[str]:
        """Candidate addresses, the likeliest first: what mDNS says is fresher."""
        found = [self.by_mdns.get(peer), self.by_registry.get(peer)]
        return list(dict.fromkeys(address for address in found if address))

    async def lookup(self) -> None:
        """Asks the registry for the whole roster; grpc.RpcError if it is not there."""
        asked = time.time()
        request = pb.LookupRequest(software=__version__, protocol=VERSION)
        roster = await self.registry.Lookup(request, timeout=_CALL_S)
        if self._metrics is not None:  # a service: others live for one round
            self.clock.compare(roster.time_ms, asked)
        self.take(roster)

    @property
    def needs_draw(self) -> bool:
        """Whether the roster is large enough for two groups."""
        return self._group_size > 0 and may_be_cut(self._peers, self._group_size)

    async def ask_draw(self) -> pb.DrawReply:
        """The newest draw: all of it for the aggregator; grpc.RpcError if the registry is not there."""
        return await self.registry.Draw(pb.DrawRequest(), timeout=_CALL_S)

    def take(self, roster: pb.Roster) -> None:
        if roster.unchanged:
            return
        self.version = roster.version
        self._take_size(roster)
        self.registered = len(roster.entries)
        self.roster = {entry.peer: entry.mdns for entry in roster.entries}
        # Whoever left the roster may only be cut off from the registry: its address stays a candidate.
        self.by_registry |= {entry.peer: entry.address for entry in roster.entries}
        while len(self.by_registry) > _KEPT:
            del self.by_registry[next(iter(self.by_registry))]
        if self._metrics is not None:
            self._metrics.peers_discovered.set(len(roster.entries), via="registry")
        self._take_members(roster)
        self._take_aggregator(roster)
        kept = pb.Roster()
        kept.CopyFrom(roster)
        kept.ClearField("time_ms")  # else each one would be another, and written anew
        content = kept.SerializeToString()
        if content == self._kept:
            return
        try:
            write_private(self._cache, content)
            self._kept = content
        except OSError as error:
            log.warning(
                "cannot keep the roster in %s: %s",
                self._cache,
                error,
                extra=about(LogEvent.STORAGE_FAILED),
            )

    def _take_size(self, roster: pb.Roster) -> None:
        self.draw = roster.draw
        self._peers, self._group_size = len(roster.entries), roster.group_size

    def _take_aggregator(self, roster: pb.Roster) -> None:
        """Says so once: a peer that is left out of rounds is not asked, and would not know."""
        other = versions.other_aggregator(roster)
        if other not in (None, self._aggregator) and self._metrics is not None:
            log.warning(
                "the aggregator is %s, and this service %s: rounds go on without this peer until both speak"
                " the same protocol",
                other,
                versions.OWN,
                extra=about(LogEvent.OTHER_PROTOCOL),
            )
        self._aggregator = other

    def _take_members(self, roster: pb.Roster) -> None:
        new = frozenset(roster.revoked) - self.members.revoked
        if new and self._metrics is not None:  # a service: others live for one round
            log.warning("revoked: %s", ", ".join(sorted(new)), extra=about(LogEvent.REVOKED))
        self.members.revoked = frozenset(roster.revoked)
        certificates = [
            entry.certificate for entry in roster.entries if entry.peer not in roster.revoked
        ]
        for der in [*certificates, roster.aggregator_certificate, roster.registry_certificate]:
            if der:
                try:
                    self.members.add(der)
                except IdentityError as error:
                    log.warning("the registry's roster: %s", error)

    def _load(self) -> None:
        try:
            roster = pb.Roster.FromString(self._cache.read_bytes())
        except FileNotFoundError:
            return
        except Exception as error:
            log.warning(
                "the kept roster %s is unreadable and ignored: %s",
                self._cache,
                error,
                extra=about(LogEvent.STORAGE_FAILED),
            )
            return
        self.by_registry = {entry.peer: entry.address for entry in roster.entries}
        indices = {entry.peer: int(entry.index) for entry in roster.entries}
        self.kept_index = indices.get(self._name)
        self._take_size(roster)
        self._take_members(roster)

    async def close(self) -> None:
        await self._channel.close()
