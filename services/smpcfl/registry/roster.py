"""Who is there: addresses by peer id, kept alive by heartbeats."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ..base.files import StorageError, write_private
from ..net.certificates import newest

ALIVE_S = 10.0  # three heartbeats of a peer, and a little


@dataclass
class Entry:
    peer: str
    address: str
    metrics_address: str
    certificate: bytes
    index: int
    last_seen: float
    mdns: bool = False
    software: str = ""
    protocol: int = 0


class Roster:
    """`now` is in seconds. Indices (which slice of the data) are kept in `path` across restarts.

    `version` grows with each change. It starts at `first_version`, which has to be larger after each
    restart: else a peer could take the new roster for the one that it knows.
    """

    def __init__(self, path: Path, first_version: int) -> None:
        self._path = path
        self._entries: dict[str, Entry] = {}
        self._indices = _kept(path)
        self.version = first_version
        self.aggregator_certificate = b""
        self.aggregator_software = ""
        self.aggregator_protocol = 0
        self.revoked: frozenset[str] = frozenset()

    def register(
        self,
        peer: str,
        address: str,
        metrics_address: str,
        certificate: bytes,
        now: float,
        software: str = "",
        protocol: int = 0,
    ) -> int:
        """Adds or moves a peer; returns its index: the one it had, or the least that is free."""
        self.expire(now)
        index = self._index(peer)
        known = self._entries.get(peer)
        entry = Entry(peer, address, metrics_address, certificate, index, now)
        entry.software, entry.protocol = software, protocol
        if known is not None:
            entry.mdns = known.mdns
            entry.certificate = newest(known.certificate, certificate)
        self._entries[peer] = entry
        self.version += 1
        return index

    def _index(self, peer: str) -> int:
        taken = {entry.index for name, entry in self._entries.items() if name != peer}
        index = self._indices.get(peer)
        if index is None or index in taken:
            index = next(i for i in range(len(taken) + 1) if i not in taken)
            self._indices[peer] = index
            write_private(self._path, json.dumps(self._indices, indent=1).encode())
        return index

    def heartbeat(self, peer: str, now: float) -> bool:
        """False if the peer is not on the roster and has to register again."""
        self.expire(now)
        entry = self._entries.get(peer)
        if entry is None:
            return False
        entry.last_seen = now
        return True

    def seen_by_mdns(self, peers: set[str]) -> None:
        for name, entry in self._entries.items():
            if entry.mdns != (name in peers):
                entry.mdns = name in peers
                self.version += 1

    def take_aggregator(self, certificate: bytes) -> None:
        """A peer that knows the roster already has to hear of it as well.

        One of the aggregator's processes may go on with an older one for a while.
        """
        certificate = newest(self.aggregator_certificate, certificate)
        if certificate != self.aggregator_certificate:
            self.aggregator_certificate = certificate
            self.version += 1

    def take_aggregator_versions(self, software: str, protocol: int) -> None:
        """What the aggregator says of itself."""
        if (software, protocol) != (self.aggregator_software, self.aggregator_protocol):
            self.aggregator_software, self.aggregator_protocol = software, protocol
            self.version += 1

    def renew(self, peer: str, certificate: bytes) -> None:
        entry = self._entries.get(peer)
        if entry is not None:
            entry.certificate = certificate
            self.version += 1

    def revoke(self, peers: frozenset[str]) -> frozenset[str]:
        """These are revoked, and no others; returns those that are so anew."""
        new = peers - self.revoked
        if peers != self.revoked:
            self.revoked = peers
            self.version += 1
        for peer in new:
            self.remove(peer)
        return new

    def remove(self, peer: str) -> None:
        if self._entries.pop(peer, None) is not None:
            self.version += 1

    def expire(self, now: float) -> None:
        for name, entry in list(self._entries.items()):
            if now - entry.last_seen > ALIVE_S:
                self.remove(name)

    def entries(self, now: float) -> list[Entry]:
        """The living, by peer id."""
        self.expire(now)
        return [self._entries[name] for name in sorted(self._entries)]


def _kept(path: Path) -> dict[str, int]:
    try:
        found = json.loads(path.read_bytes())
        if all(type(index) is int and index >= 0 for index in found.values()):
            return dict(found)
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError, RecursionError):
        pass
    raise StorageError(f"{path} is unreadable: remove it, and peers get data slices anew")
