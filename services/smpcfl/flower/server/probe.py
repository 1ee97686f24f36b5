"""Whether peers are there: asks their agents directly, because Flower is slow to see that one is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import grpc.aio

from smpc.v1 import peer_pb2 as pb
from smpc.v1 import peer_pb2_grpc as pb_grpc

from ...base.state import State
from ...net.certificates import Identity
from ...net.dial import NoAddress, PeerChannels
from ...net.directory import Directory

_PATIENCE_S = 2.0


async def instances(
    own: Identity, registry: str, state: Path, peers: Iterable[str]
) -> dict[str, bytes]:
    """The instance of its agent, by peer id, of those whose agent answers within two seconds.

    Goes by the roster kept in `state`, so the registry may be down.
    """
    directory = Directory(own, registry, State(state).roster)
    channels = PeerChannels(own, directory)
    peers = [peer for peer in peers if peer not in directory.members.revoked]
    try:
        found = await asyncio.gather(*(_ask(channels, peer) for peer in peers))
    finally:
        await channels.close_all()
        await directory.close()
    return {peer: one for peer, one in zip(peers, found, strict=True) if one is not None}


async def _ask(channels: PeerChannels, peer: str) -> bytes | None:
    while True:
        try:
            channel = channels.to(peer)
        except NoAddress:
            return None
        try:
            reply = await pb_grpc.PeerStub(channel).Identify(pb.Empty(), timeout=_PATIENCE_S)
            return bytes(reply.instance)
        except grpc.aio.AioRpcError:
            if not channels.failed(peer, channel):
                return None
