"""A lying peer with its real key and certificate, over gRPC: the others go on without it.

Its own agent is not there: what it says comes from a test.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import grpc.aio
import pytest

from smpc.v1 import messages_pb2 as messages
from smpc.v1 import peer_pb2 as pb
from smpcfl.net import ready_wire, rpc, wire
from smpcfl.peer.peer_service import PeerService
from smpcfl.protocol.announcement import Announcement
from smpcfl.protocol.errors import Reason
from smpcfl.protocol.keystream import Secret
from smpcfl.protocol.messages import Answer, Exchange, Ready
from smpcfl.protocol.peer_round import PeerRound
from smpcfl.protocol.receipts import Receipt, Receipts
from smpcfl.protocol.ticket import ADDITIVE
from support.deployed import LONG_S, Deployed, outcome
from support.forge import round_of, twin
from support.unchecked import check, removed

pytestmark = pytest.mark.sockets

PEERS = 5  # threshold 3: one may be lost
LIAR, ANOTHER, VICTIM = 0, 1, 4  # an exchange goes from the lower id to the higher
OTHERS = (1, 2, 3, 4)


def dealt(dealer: PeerRound, to: int) -> Exchange:
    assert dealer._secrets is not None
    return Exchange(dealer.announcement, dealer._secrets.dealt[to])


class Liar:
    """A peer whose agent has vanished; `say` is what it sends instead."""

    def __init__(self, net: Deployed) -> None:
        self.net = net
        self.name = net.cohort[LIAR]
        self.stubs = {to: net.stub(net.peer(LIAR).own, to) for to in OTHERS}

    def dealer(self, seed: str) -> PeerRound:
        """What it may deal in the open round, one for each seed."""
        net: Any = self.net
        return twin(net, self.name, seed)

    async def exchange(self, to: int, message: Exchange) -> Any:
        request = wire.exchange_to_proto(message)
        return await outcome(self.stubs[to].Exchange(request, timeout=LONG_S))

    async def deal(self, dealer: PeerRound, to: int) -> Any:
        """An exchange as it should be."""
        return await self.exchange(to, dealt(dealer, to))

    async def ready(self, to: int, message: Ready) -> Any:
        request = ready_wire.ready_to_proto(message)
        return await outcome(self.stubs[to].Ready(request, timeout=LONG_S))


async def deployed(net: Deployed) -> Liar:
    """A round is open at everyone but the liar."""
    await net.peer(LIAR).server.stop(0)
    await net.begin(without=(LIAR,))
    return Liar(net)


async def rest_completes(net: Deployed) -> None:
    await net.pass_deadlines(OTHERS)
    assert all(set(round_of(net, i)._counted()) == set(OTHERS) - {i} for i in OTHERS)
    await net.upload()
    assert await net.finish() == net.true_sum(net.cohort[index] for index in OTHERS)
    assert net.survivors == list(net.cohort[1:])


# -- what belongs to somebody else ---------------------------------------------------------------------------


async def anothers_exchange(net: Deployed) -> Any:
    liar = await deployed(net)
    return await liar.exchange(VICTIM, dealt(round_of(net, ANOTHER), VICTIM))


async def test_anothers_announcement_is_refused(tmp_path: Path) -> None:
    async with Deployed(tmp_path, PEERS) as net:
        assert await anothers_exchange(net) is Reason.MALFORMED
        assert net.peer(VICTIM).rejected(Reason.MALFORMED) == 1
        await rest_completes(net)


async def test_anothers_announcement_is_answered_where_nobody_looks_whose_it_is(
    tmp_path: Path,
) -> None:
    # It holds what it has no announcement of, and could not sign for that.
    with removed(check(PeerRound, "_know", Reason.MALFORMED)), patch.object(Receipts, "sign"):
        async with Deployed(tmp_path, PEERS) as net:
            assert isinstance(await anothers_exchange(net), messages.Exchange)


async def forged_receipts(net: Deployed) -> None:
    """The liar dealt to the victim alone, and relays what others never signed: that they hold its shares."""
    liar = await deployed(net)
    dealer = liar.dealer("its own")
    await liar.deal(dealer, VICTIM)
    for holder in (1, 2, 3):
        receipt = Receipt(holder, 3, (LIAR, holder), bytes(64))
        await liar.ready(VICTIM, Ready(net.ticket.digest, receipt))


async def test_receipts_that_others_did_not_sign_count_for_nobody(tmp_path: Path) -> None:
    async with Deployed(tmp_path, PEERS) as net:
        await forged_receipts(net)
        assert not round_of(net, VICTIM)._receipts.is_ready(LIAR)
        await rest_completes(net)


async def test_they_count_where_nobody_verifies_them(tmp_path: Path) -> None:
    with patch.object(Receipts, "_is_signed", lambda *_: True):
        async with Deployed(tmp_path, PEERS) as net:
            await forged_receipts(net)
            assert round_of(net, VICTIM)._receipts.is_ready(LIAR)


# -- an earlier round ----------------------------------------------------------------------------------------


async def replay(net: Deployed, *, under_this_ticket: bool) -> Any:
    """The liar's own exchange of the round before, as it was or with this round's digest in it."""
    await net.begin()
    await net.upload()
    old = dealt(round_of(net, LIAR), VICTIM)
    await net.finish()
    liar = await deployed(net)
    if under_this_ticket:
        announcement = replace(old.announcement, ticket_digest=net.ticket.digest)
        old = replace(old, announcement=announcement)
    return await liar.exchange(VICTIM, old)


async def test_an_exchange_of_an_earlier_round_is_refused(tmp_path: Path) -> None:
    async with Deployed(tmp_path, PEERS) as net:
        # Not counted as a rejection: whoever is slow says the same.
        assert await replay(net, under_this_ticket=False) is Reason.UNKNOWN_TICKET
        await rest_completes(net)


async def test_an_exchange_of_an_earlier_round_cannot_be_relabelled(tmp_path: Path) -> None:
    async with Deployed(tmp_path, PEERS) as net:
        assert await replay(net, under_this_ticket=True) is Reason.BAD_SIGNATURE
        assert net.peer(VICTIM).rejected(Reason.BAD_SIGNATURE) == 1
        await rest_completes(net)


async def test_it_is_answered_where_announcements_are_not_checked(tmp_path: Path) -> None:
    with removed(check(Announcement, "check", "check_signature")):
        async with Deployed(tmp_path, PEERS) as net:
            assert isinstance(await replay(net, under_this_ticket=True), messages.Exchange)


# -- two announcements ---------------------------------------------------------------------------------------


async def two_announcements(net: Deployed) -> tuple[Liar, dict[int, PeerRound]]:
    """Each half confirms its own."""
    liar = await deployed(net)
    one, other = liar.dealer("one"), liar.dealer("other")
    halves = {1: one, 2: one, 3: other, 4: other}
    for to, dealer in halves.items():
        assert isinstance(await liar.deal(dealer, to), messages.Exchange)
    return liar, halves


async def test_a_peer_with_two_announcements_is_ready_for_nobody(tmp_path: Path) -> None:
    async with Deployed(tmp_path, PEERS) as net:
        liar, halves = await two_announcements(net)
        await net.until(lambda: net.rejected(Reason.EQUIVOCATION) == 4)
        assert all(not round_of(net, to)._receipts.is_ready(LIAR) for to in OTHERS)
        # It does not help to deal the one to the other half as well.
        assert await liar.deal(halves[1], 3) is Reason.EQUIVOCATION
        await rest_completes(net)


async def test_two_announcements_count_where_receipts_do_not(tmp_path: Path) -> None:
    ready = patch.object(Receipts, "is_ready", lambda self, i: i in self.announcements.first)
    with ready:
        async with Deployed(tmp_path, PEERS) as net:
            liar, _ = await two_announcements(net)
            await net.until(lambda: all(round_of(net, to)._receipts.own for to in OTHERS))
            said = Ready(net.ticket.digest, counts=True)
            assert all([(await liar.ready(to, said)).counts for to in OTHERS])
            held = [round_of(net, to)._receipts.announcements.first[LIAR] for to in OTHERS]
            assert len({item.public_key for item in held}) == 2


# -- a bad share at unmask -----------------------------------------------------------------------------------


class BadHolder(PeerRound):
    """The liar shows shares that it was not dealt."""

    def answer(self, now: float) -> Answer | None:
        answer = super().answer(now)
        if answer is None or self.me != LIAR:
            return answer
        shown = [replace(item, share=Secret(bytes(33))) for item in answer.self_shares]
        return replace(answer, self_shares=tuple(shown))


async def test_the_aggregator_reports_the_holder_of_a_bad_share(tmp_path: Path) -> None:
    async with Deployed(tmp_path, PEERS, kind=BadHolder) as net:
        await net.begin()
        await net.upload()
        state = net.received()
        async with net.unmasking() as unmasking:
            request = wire.survivors_to_proto(state.survivors(), state.ticket)
            # Of everyone: a round that has enough answers asks no further.
            await asyncio.gather(*(unmasking._ask(state, request, name) for name in net.cohort))
        assert state.total() == net.true_sum(net.cohort)
        reported = [(error.reason, error.peer) for error in net.reported]
    assert reported == [(Reason.BAD_SHARE, net.cohort[LIAR])]


# -- additive: shares of the wrong length --------------------------------------------------------------------

CHUNK = bytes(1 << 16)
MANY = 1000


async def streamed(net: Deployed, call: Any) -> Any:
    """The outcome, as the victim counts it where the liar does not hear of it.

    Whoever is writing at the moment when it is refused may see its writing fail, and no reason.
    """
    before = net.peer(VICTIM).rejected(Reason.WRONG_LENGTH)
    try:
        return await outcome(call)
    except grpc.aio.AioRpcError as error:
        counted = net.peer(VICTIM).rejected(Reason.WRONG_LENGTH) > before
        if error.code() is not grpc.StatusCode.INTERNAL or not counted:
            raise
        return Reason.WRONG_LENGTH


async def pour(net: Deployed, data: list[bytes]) -> Any:
    """One share from the liar, in these pieces."""
    chunks = [pb.ShareChunk(ticket_digest=net.ticket.digest, data=piece) for piece in data]
    stub = net.stub(net.peer(LIAR).own, VICTIM)
    return await streamed(net, stub.Share(iter(chunks), timeout=LONG_S))


async def pour_on(net: Deployed) -> tuple[Any, int]:
    """A share that goes on; the reply, and how many pieces were taken from the liar."""
    taken = 0

    async def chunks() -> AsyncIterator[pb.ShareChunk]:
        nonlocal taken
        while taken < MANY:
            taken += 1
            yield pb.ShareChunk(ticket_digest=net.ticket.digest, data=CHUNK)

    stub = net.stub(net.peer(LIAR).own, VICTIM)
    return await streamed(net, stub.Share(chunks(), timeout=LONG_S)), taken


async def begin_additive(net: Deployed, **changes: object) -> None:
    await net.begin(net.make_ticket(mode=ADDITIVE, min_survivors=PEERS, **changes))


async def test_shares_of_a_wrong_length_are_refused(tmp_path: Path) -> None:
    async with Deployed(tmp_path, PEERS) as net:
        await begin_additive(net)
        right = bytes(net.ticket.layout.nbytes)
        wrong = [[right[:-1]], [right, b"0"], [right + b"0"], [b""]]
        for count, data in enumerate(wrong, 1):
            assert await pour(net, data) is Reason.WRONG_LENGTH
            assert net.peer(VICTIM).rejected(Reason.WRONG_LENGTH) == count
        assert await pour(net, []) is Reason.MALFORMED
        reply, taken = await pour_on(net)
        assert reply is Reason.WRONG_LENGTH
        assert taken < MANY
        await net.upload()  # the true shares came all the same
        assert await net.finish() == net.true_sum(net.cohort)


def taken_in(net: Deployed) -> float:
    labels = {"mode": "seeded", "direction": "in", "channel": "p2p"}
    registry = net.peer(VICTIM).metrics.registry
    return registry.get_sample_value("smpcfl_bytes_total", labels) or 0.0


async def test_a_share_without_end_is_cut_off_before_it_is_too_long(tmp_path: Path) -> None:
    async with Deployed(tmp_path, PEERS) as net:
        await begin_additive(net, body=120_000)
        victim: Any = net.rounds[net.cohort[VICTIM]]
        await net.until(lambda: len(victim._received) == PEERS - 1)
        before = taken_in(net)
        assert (await pour_on(net))[0] is Reason.WRONG_LENGTH
        assert 0 < taken_in(net) - before < net.ticket.layout.nbytes
        await net.upload()
        assert await net.finish() == net.true_sum(net.cohort)


async def test_a_message_that_is_too_large_is_not_taken(tmp_path: Path) -> None:
    async with Deployed(tmp_path, PEERS) as net:
        await begin_additive(net)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await pour(net, [bytes(2 * rpc.CHUNK_BYTES)])
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await net.upload()
        assert await net.finish() == net.true_sum(net.cohort)


async def test_a_share_without_end_is_taken_in_by_a_build_that_does_not_count(
    tmp_path: Path,
) -> None:
    with removed(check(PeerService, "_collect", Reason.WRONG_LENGTH)):
        async with Deployed(tmp_path, PEERS) as net:
            await begin_additive(net)
            reply, taken = await pour_on(net)
    assert reply is Reason.WRONG_LENGTH  # it comes after all, when memory has held everything
    assert taken == MANY


async def test_a_second_share_of_the_same_peer_changes_nothing(tmp_path: Path) -> None:
    async with Deployed(tmp_path, PEERS) as net:
        await begin_additive(net)
        victim: Any = net.rounds[net.cohort[VICTIM]]
        await net.until(lambda: len(victim._received) == PEERS - 1)
        assert await pour(net, [b"1" * net.ticket.layout.nbytes]) == pb.Empty()
        await net.upload()
        assert await net.finish() == net.true_sum(net.cohort)
