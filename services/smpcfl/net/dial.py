"""One channel to each peer, with fail-over between the addresses that are known of it."""

from __future__ import annotations

import asyncio

import grpc.aio

from . import rpc
from .certificates import Identity, Role
from .directory import Directory

_GRACE_S = 5.0  # for other calls that may be under way on a channel that is closed


class NoAddress(LookupError):
    """Nobody has said yet where this peer is."""


class PeerChannels:
    """Belongs to the running event loop. Not made before a first call to a peer.

    `most_bytes`: of a reply.
    """

    def __init__(
        self, own: Identity, directory: Directory, most_bytes: int = rpc.MOST_REPLY_BYTES
    ) -> None:
        self._own = own
        self._most_bytes = most_bytes
        self._directory = directory
        self._channels: dict[str, tuple[str, grpc.aio.Channel]] = {}
        self._failed: dict[str, set[str]] = {}  # addresses, since one of that peer's last answered

    def to(self, peer: str) -> grpc.aio.Channel:
        """At the likeliest address that has not failed; NoAddress if none is known."""
        candidates = self._directory.addresses(peer)
        if not candidates:
            raise NoAddress(f"no address of {peer} is known")
        known = self._channels.get(peer)
        if known is not None and known[0] in candidates:
            return known[1]
        self.close(peer)
        address = next(iter(self._untried(peer, candidates)), candidates[0])
        made = rpc.channel(self._own, address, Role.PEER, peer, self._most_bytes)
        self._channels[peer] = (address, made)
        return made

    def failed(self, peer: str, channel: grpc.aio.Channel) -> bool:
        """Nobody answers on `channel`. True if another address can be tried at once.

        When all have failed, the next call begins with the likeliest again.
        """
        known = self._channels.get(peer)
        if known is None or known[1] is not channel:
            return True  # another call saw it first
        self.close(peer)
        self._failed.setdefault(peer, set()).add(known[0])
        if self._untried(peer, self._directory.addresses(peer)):
            return True
        del self._failed[peer]
        return False

    def _untried(self, peer: str, candidates: list[str]) -> list[str]:
        failed = self._failed.get(peer, ())
        return [address for address in candidates if address not in failed]

    def close(self, peer: str) -> None:
        """Its channel, if there is one; the next call makes a new one."""
        if (known := self._channels.pop(peer, None)) is None:
            return
        task = asyncio.ensure_future(known[1].close(_GRACE_S))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def close_all(self) -> None:
        await asyncio.gather(*(channel.close() for _, channel in self._channels.values()))
        self._channels.clear()
