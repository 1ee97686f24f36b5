"""The streams of `additive`: what one peer sends another takes no more room or time than its share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from smpc.v1 import peer_pb2 as pb
from smpc.v1 import peer_pb2_grpc as pb_grpc
from smpcfl.net import rpc
from smpcfl.peer import peer_service
from smpcfl.protocol.errors import Reason
from smpcfl.protocol.ticket import ADDITIVE, Deadlines, SignedTicket
from support.loopback import Loopback

SOON = Deadlines(100, 200, 400, 500, 600, 700)


@pytest.fixture
async def network(tmp_path: Path) -> AsyncIterator[Loopback]:
    async with Loopback(tmp_path, 4) as network:
        yield network


def ticket_of(network: Loopback, **changes: Any) -> SignedTicket:
    """Of the first three; the fourth is in no cohort."""
    known: dict[str, Any] = {"cohort": network.peers[:3], "threshold": 2}
    return network.ticket(ADDITIVE, **known, min_survivors=3, **changes)


def take(network: Loopback, signed: SignedTicket) -> None:
    """By the first peer, which reaches nobody: no share comes but those of the test."""
    network.ports |= dict.fromkeys(network.peers[1:], 1)
    network.agents[network.peers[0]].take_ticket(signed)


async def reason_of(
    network: Loopback, chunks: AsyncIterator[pb.ShareChunk], sender: int = 1
) -> Reason | None:
    """Why the stream from `sender` was refused; None if it was taken."""
    async with network.channel(network.peers[sender], network.peers[0]) as channel:
        call = pb_grpc.PeerStub(channel).Share(chunks, timeout=20.0)
        try:
            await call
        except grpc.aio.AioRpcError as error:
            if (reason := rpc.reason_of(error)) is None:
                raise
            return reason
    return None


async def chunks_of(
    signed: SignedTicket, *sizes: int, ends: bool = True
) -> AsyncIterator[pb.ShareChunk]:
    digest = signed.ticket.digest
    for size in sizes:
        yield pb.ShareChunk(ticket_digest=digest, data=bytes(size))
        digest = b""
    if not ends:
        await asyncio.Event().wait()


def incoming(network: Loopback) -> dict[str, bytearray]:
    return network.services[network.peers[0]]._incoming


async def something_comes(network: Loopback) -> None:
    async with asyncio.timeout(20):
        while True:
            if incoming(network):
                return
            await asyncio.sleep(0)


async def test_a_share_is_taken(network: Loopback) -> None:
    signed = ticket_of(network)
    take(network, signed)
    assert await reason_of(network, chunks_of(signed, signed.ticket.layout.nbytes)) is None
    assert incoming(network) == {}


async def test_a_stream_that_never_ends_is_dropped_at_the_deadline(network: Loopback) -> None:
    signed = ticket_of(network, deadlines=SOON)
    take(network, signed)
    assert await reason_of(network, chunks_of(signed, 10, ends=False)) is Reason.DEADLINE
    assert incoming(network) == {}


async def test_a_stream_that_never_ends_is_dropped_with_its_round(network: Loopback) -> None:
    signed = ticket_of(network)
    take(network, signed)
    refused = asyncio.create_task(reason_of(network, chunks_of(signed, 10, ends=False)))
    await something_comes(network)
    newer = ticket_of(network, serial=signed.ticket.serial + 1)
    take(network, newer)
    assert await refused is Reason.ROUND_CLOSED
    assert incoming(network) == {}


async def test_a_stream_that_never_begins(
    network: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_service, "FIRST_CHUNK_S", 0.05)
    signed = ticket_of(network)
    take(network, signed)
    assert await reason_of(network, chunks_of(signed, ends=False)) is Reason.MALFORMED


async def test_a_peer_has_one_stream_at_a_time(network: Loopback) -> None:
    signed = ticket_of(network)
    take(network, signed)
    go_on = asyncio.Event()

    async def slow() -> AsyncIterator[pb.ShareChunk]:
        yield pb.ShareChunk(ticket_digest=signed.ticket.digest, data=bytes(10))
        await go_on.wait()
        yield pb.ShareChunk(data=bytes(10))

    first = asyncio.create_task(reason_of(network, slow()))
    await something_comes(network)
    assert await reason_of(network, chunks_of(signed, signed.ticket.layout.nbytes)) is None
    assert incoming(network) == {}
    go_on.set()
    assert await first is Reason.RATE_LIMITED


@pytest.mark.parametrize("sizes", [(1000,), (10,) * 20, (0,) * 3])
async def test_more_bytes_or_chunks_than_the_vector_needs(
    network: Loopback, sizes: tuple[int, ...]
) -> None:
    signed = ticket_of(network)
    take(network, signed)
    assert signed.ticket.layout.nbytes < 200
    assert await reason_of(network, chunks_of(signed, *sizes)) is Reason.WRONG_LENGTH


async def test_nothing_is_taken_from_outside_the_cohort(network: Loopback) -> None:
    signed = ticket_of(network)
    take(network, signed)
    stream = chunks_of(signed, 10, ends=False)
    assert await reason_of(network, stream, sender=3) is Reason.NOT_IN_COHORT


async def test_a_large_share_in_chunks(network: Loopback) -> None:
    signed = ticket_of(network)
    ticket = replace(signed.ticket, body=(5 << 20) // 4, width=32)
    signed = SignedTicket(ticket, network.aggregator.signer(ticket.signed_bytes))
    difference = await network.round(signed, network.peers[:3])
    assert difference == ticket.layout.zeros()
