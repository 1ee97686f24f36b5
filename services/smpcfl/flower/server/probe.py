"""Whether peers are there: asks their agents directly, because Flower is slow to see that one is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import grpc.aio

from smpc.v1 import peer_pb2 as pb
from smpc.v1 import peer_pb2_grpc as pb_grpc

from ...base.state import State
from ...net import rpc
from ...net.certificates import Identity, Role
from ...net.directory import Directory

_PATIENCE_S = 2.0


async def starts(
    own: Identity, registry: str, state: Path, peers: Iterable[str]
) -> dict[str, bytes]:
    """Which start its agent is in, by peer id, of those whose agent answers within two seconds.

    Goes by the roster kept in `state`, so the registry may be down.
    """
    directory = Directory(own, registry, State(state).roster)
    peers = [peer for peer in peers if peer not in directory.members.revoked]
    try:
        found = await asyncio.gather(
            *(_ask(own, peer, directory.addresses(peer)) for peer in peers)
        )
    finally:
        await directory.close()
    return {peer: start for peer, start in zip(peers, found, strict=True) if start is not None}


async def _ask(own: Identity, peer: str, addresses: list[str]) -> bytes | None:
    for address in addresses:
        async with rpc.channel(own, address, Role.PEER, peer) as channel:
            try:
                reply = await pb_grpc.PeerStub(channel).Identify(pb.Empty(), timeout=_PATIENCE_S)
                return bytes(reply.start)
            except grpc.aio.AioRpcError:
                continue
    return None
