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
from .peer_calls import PeerCalls

_PATIENCE_S = 2.0


async def instances(
    own: Identity, registry: str, state: Path, peers: Iterable[str], calls: PeerCalls
) -> dict[str, bytes]:
    """The instance of its agent, by peer id, of those whose agent answers within two seconds.

    Goes by the roster kept in `state`, so the registry may be down.
    """
    directory = Directory(own, registry, State(state).roster)
    channels = PeerChannels(own, directory)
    peers = [peer for peer in peers if peer not in directory.members.revoked]
    calls.open(directory)
    try:
        found = await asyncio.gather(*(_ask(channels, peer, calls) for peer in peers))
    finally:
        calls.look()
        await channels.close_all()
        await directory.close()
        calls.close()
    return {peer: one for peer, one in zip(peers, found, strict=True) if one is not None}


async def _ask(channels: PeerChannels, peer: str, calls: PeerCalls) -> bytes | None:
    while True:
        try:
            channel = channels.to(peer)
        except NoAddress:
            return None
        try:
            with calls.call("Identify"):
                stub = pb_grpc.PeerStub(channel)
                reply = await stub.Identify(pb.Empty(), timeout=_PATIENCE_S)
            return bytes(reply.instance)
        except grpc.aio.AioRpcError:
            if not channels.failed(peer, channel):
                return None
