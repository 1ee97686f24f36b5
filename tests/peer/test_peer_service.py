"""The streams of `additive`: what one peer sends another takes no more room or time than its share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from smpc.v1 import peer_pb2 as pb
from smpcfl.peer import peer_service
from smpcfl.protocol.errors import Reason
from smpcfl.protocol.ticket import ADDITIVE, Deadlines, SignedTicket
from support.deployed import LONG_S, Deployed, outcome
from support.logged import logged

pytestmark = pytest.mark.sockets

SOON = Deadlines(100, 200, 400, 500, 600, 700)


@pytest.fixture
async def net(tmp_path: Path) -> AsyncIterator[Deployed]:
    async with Deployed(tmp_path, 4) as net:
        yield net


def ticket_of(net: Deployed, **changes: Any) -> SignedTicket:
    """Of the first three; the fourth is in no cohort."""
    known: dict[str, Any] = {"cohort": net.cohort[:3], "threshold": 2, "min_survivors": 3}
    return net.make_ticket(mode=ADDITIVE, **known, **changes)


def take(net: Deployed, signed: SignedTicket) -> None:
    """By the first peer, which reaches nobody: no share comes but those of the test."""
    net.peer(0).directory.by_registry = {}
    net.peer(0).agent.take_ticket(signed)


async def answer_to(net: Deployed, chunks: AsyncIterator[pb.ShareChunk], sender: int = 1) -> Any:
    """To the stream from `sender`: a Reason where it is refused."""
    return await outcome(net.stub(net.peer(sender).own, 0).Share(chunks, timeout=LONG_S))


async def chunks_of(
    signed: SignedTicket, *sizes: int, ends: bool = True
) -> AsyncIterator[pb.ShareChunk]:
    digest = signed.ticket.digest
    for size in sizes:
        yield pb.ShareChunk(ticket_digest=digest, data=bytes(size))
        digest = b""
    if not ends:
        await asyncio.Event().wait()


def incoming(net: Deployed) -> dict[str, bytearray]:
    return net.peer(0).service._incoming


async def something_comes(net: Deployed) -> None:
    async with asyncio.timeout(LONG_S):
        while True:
            if incoming(net):
                return
            await asyncio.sleep(0)


async def test_a_share_is_taken(net: Deployed) -> None:
    signed = ticket_of(net)
    take(net, signed)
    assert await answer_to(net, chunks_of(signed, signed.ticket.layout.nbytes)) == pb.Empty()
    assert incoming(net) == {}


async def test_a_stream_that_never_ends_is_dropped_at_the_deadline(net: Deployed) -> None:
    signed = ticket_of(net, deadlines=SOON)
    take(net, signed)
    assert await answer_to(net, chunks_of(signed, 10, ends=False)) is Reason.DEADLINE
    assert incoming(net) == {}


async def test_a_stream_that_never_ends_is_dropped_with_its_round(net: Deployed) -> None:
    signed = ticket_of(net)
    take(net, signed)
    refused = asyncio.create_task(answer_to(net, chunks_of(signed, 10, ends=False)))
    await something_comes(net)
    newer = ticket_of(net, serial=signed.ticket.serial + 1)
    take(net, newer)
    assert await refused is Reason.ROUND_CLOSED
    assert incoming(net) == {}


async def test_a_stream_that_never_begins(net: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_service, "FIRST_CHUNK_S", 0.05)
    signed = ticket_of(net)
    take(net, signed)
    assert await answer_to(net, chunks_of(signed, ends=False)) is Reason.MALFORMED


async def test_a_peer_has_one_stream_at_a_time(net: Deployed) -> None:
    signed = ticket_of(net)
    take(net, signed)
    go_on = asyncio.Event()

    async def slow() -> AsyncIterator[pb.ShareChunk]:
        yield pb.ShareChunk(ticket_digest=signed.ticket.digest, data=bytes(10))
        await go_on.wait()
        yield pb.ShareChunk(data=bytes(10))

    first = asyncio.create_task(answer_to(net, slow()))
    await something_comes(net)
    assert await answer_to(net, chunks_of(signed, signed.ticket.layout.nbytes)) == pb.Empty()
    assert incoming(net) == {}
    go_on.set()
    assert await first is Reason.RATE_LIMITED


@pytest.mark.parametrize("sizes", [(1000,), (10,) * 20, (0,) * 3])
async def test_more_bytes_or_chunks_than_the_vector_needs(
    net: Deployed, sizes: tuple[int, ...]
) -> None:
    signed = ticket_of(net)
    take(net, signed)
    assert signed.ticket.layout.nbytes < 200
    # Refused before it ends: whether it ever does is the sender's choice.
    stream = chunks_of(signed, *sizes, ends=False)
    assert await answer_to(net, stream) is Reason.WRONG_LENGTH


async def test_nothing_is_taken_from_outside_the_cohort(net: Deployed) -> None:
    signed = ticket_of(net)
    take(net, signed)
    stream = chunks_of(signed, 10, ends=False)
    assert await answer_to(net, stream, sender=3) is Reason.NOT_IN_COHORT


async def test_a_large_share_in_chunks(net: Deployed) -> None:
    await net.begin(ticket_of(net, body=(5 << 20) // 4, width=32), without=[3])
    await net.upload()
    assert await net.finish() == net.true_sum(net.cohort[:3])


async def test_the_log_says_who_called_where_the_refusal_does_not(net: Deployed) -> None:
    signed = ticket_of(net, deadlines=SOON)
    take(net, signed)
    with logged() as lines:
        assert await answer_to(net, chunks_of(signed, 10, ends=False)) is Reason.DEADLINE
    about = {"run": signed.ticket.run, "round": signed.ticket.round, "peer": net.cohort[1]}
    (line,) = (line for line in lines if line.event == "refused")
    assert (line.message, line.fields) == ("refused: deadline: upload", about)
