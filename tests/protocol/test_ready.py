"""Ready, from one peer's side: when it signs receipts, whom it counts, what it passes on and asks for."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from smpcfl.protocol.announcement import Equivocation
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.exchange_round import LACKING_AFTER_S, YIELD_S
from smpcfl.protocol.messages import Call, Exchange, Ready, ReadyReply
from smpcfl.protocol.phases import Phase
from smpcfl.protocol.receipts import ListRequest
from smpcfl.protocol.retry import LONGEST_S
from support.forge import round_of, second_announcement, sent, twin
from support.network import Network, make_ticket, peer_ids

PEERS = peer_ids(8)
EXCHANGE_S, HALF_WAY_S, READY_S = 20.0, 30.0, 40.0


@pytest.fixture
def network() -> Network:
    return Network(make_ticket(8)).until("start")


@pytest.fixture
def exchanged() -> Network:
    return Network(make_ticket(8)).until("exchange")


@pytest.fixture
def ready() -> Network:
    return Network(make_ticket(8)).until("ready")


def ready_of(network: Network, index: int, to: int) -> Ready:
    return sent(round_of(network, index), Ready, to, network.now + 9)


def cut(*pairs: tuple[int, int]) -> set[tuple[str, str]]:
    return {(PEERS[a], PEERS[b]) for one, other in pairs for a, b in ((one, other), (other, one))}


def refused(error: pytest.ExceptionInfo[RemoteError], reason: Reason, peer: str) -> bool:
    return (error.value.reason, error.value.peer) == (reason, peer)


# -- receipts -----------------------------------------------------------------------------------------


def test_a_receipt_is_signed_once_all_are_confirmed(exchanged: Network) -> None:
    own = round_of(exchanged, 3)._receipts.own
    assert own is not None
    assert (own.number, own.dealers) == (1, tuple(range(8)))
    round_of(exchanged, 3).calls(READY_S)
    assert round_of(exchanged, 3)._receipts.own is own


def test_nobody_signs_before_the_exchange_deadline_with_one_missing(network: Network) -> None:
    network.lost = {PEERS[7]: "exchange"}
    network.exchange()
    peer = round_of(network, 0)
    peer.calls(EXCHANGE_S - 0.001)
    assert (peer.phase, peer._receipts.own) == (Phase.EXCHANGE, None)
    peer.calls(EXCHANGE_S)
    assert peer.phase is Phase.READY
    assert peer._receipts.own is not None
    assert peer._receipts.own.dealers == tuple(range(7))


def test_at_most_three_are_signed_each_over_more_than_the_one_before(network: Network) -> None:
    """At the exchange deadline, half-way to ready, and at ready."""
    peer, dealt = round_of(network, 7), [round_of(network, index) for index in range(5)]
    signed = [(7,)]
    for dealer, now in enumerate((EXCHANGE_S, HALF_WAY_S, READY_S, READY_S + 1)):
        peer.exchange(PEERS[dealer], sent(dealt[dealer], Exchange, 7, 0.0), now - 0.1)
        for at in (now - 0.001, now):
            peer.calls(at)
            own = peer._receipts.own
            if own is not None and own.dealers != signed[-1]:
                assert at == now
                assert set(own.dealers) > set(signed[-1])
                assert own.number == len(signed)
                signed.append(own.dealers)
    assert signed == [(7,), (0, 7), (0, 1, 7), (0, 1, 2, 7)]


def test_what_is_confirmed_between_two_moments_waits_for_the_next(network: Network) -> None:
    peer = round_of(network, 7)
    peer.exchange(PEERS[0], sent(round_of(network, 0), Exchange, 7, 0.0), 1.0)
    peer.calls(EXCHANGE_S)
    event = peer.next_event(EXCHANGE_S)
    assert event is not None
    peer.exchange(PEERS[1], sent(round_of(network, 1), Exchange, 7, 0.0), EXCHANGE_S + 1)
    assert peer._receipts.number(7) == 1
    moments = []
    while event < READY_S:
        peer.calls(event)
        moments.append(event)
        found = peer.next_event(event)
        assert found is not None
        event = max(found, event + 0.001)
    assert HALF_WAY_S in moments
    assert peer._receipts.number(7) == 2


def test_a_ready_is_answered_with_ones_own_receipt(exchanged: Network) -> None:
    receiver = round_of(exchanged, 5)
    reply = receiver.ready(PEERS[0], ready_of(exchanged, 0, 5), exchanged.now)
    assert reply.receipt == receiver._receipts.own
    assert receiver._receipts.number(0) == 1
    assert reply.announcement is None, "0 holds its shares"


def test_a_repeated_ready_gives_the_same_answer(exchanged: Network) -> None:
    message = ready_of(exchanged, 0, 5)
    first = round_of(exchanged, 5).ready(PEERS[0], message, exchanged.now)
    assert round_of(exchanged, 5).ready(PEERS[0], message, exchanged.now) == first


def test_a_receipt_that_the_caller_has_is_not_sent_again(exchanged: Network) -> None:
    message = replace(ready_of(exchanged, 0, 5), has=1)
    assert round_of(exchanged, 5).ready(PEERS[0], message, exchanged.now).receipt is None


@pytest.fixture
def first_time(network: Network) -> Network:
    """The exchanges are over; nobody has called with its ready yet."""
    for peer in PEERS:
        for call in network.rounds[peer].calls(network.now):
            if isinstance(call.message, Exchange):
                network._deliver(peer, call)
    return network


def test_a_higher_id_waits_a_moment_for_the_ready_of_a_lower_one(first_time: Network) -> None:
    last, now = round_of(first_time, 7), first_time.now
    assert last.phase is Phase.READY
    assert [c for c in last.calls(now) if isinstance(c.message, Ready)] == []
    event = last.next_event(now)
    assert event is not None
    assert event <= now + YIELD_S
    assert len([c for c in last.calls(now + YIELD_S) if isinstance(c.message, Ready)]) == 7


def test_who_was_called_in_the_meantime_waits_again_before_it_says_more(
    first_time: Network,
) -> None:
    last, now = round_of(first_time, 7), first_time.now
    last.calls(now)
    for index in range(7):
        call = next(c for c in round_of(first_time, index).calls(now) if c.to == PEERS[7])
        assert isinstance(call.message, Ready)
        last.ready(PEERS[index], call.message, now)
    later = now + YIELD_S
    assert not last.calls(later)
    assert [c.message.counts for c in last.calls(later + YIELD_S) if isinstance(c.message, Ready)]


# -- whom it counts -----------------------------------------------------------------------------------


def test_all_count_where_nothing_goes_wrong(ready: Network) -> None:
    for peer in PEERS:
        assert ready.rounds[peer].masks_available(ready.now)


def alone(network: Network, index: int, other: int) -> None:
    """The two have heard nothing of each other yet beside the exchange; with the others all is done."""
    network.cut = cut((index, other))
    network._lose("ready")
    network.pump()


def test_a_pair_counts_once_both_said_so_and_both_heard_it(exchanged: Network) -> None:
    alone(exchanged, 0, 5)
    low, high, now = round_of(exchanged, 0), round_of(exchanged, 5), exchanged.now + LONGEST_S

    def who_counts() -> list[bool]:
        return [5 in low._counted(), 0 in high._counted()]

    first = sent(low, Ready, 5, now)
    assert not first.counts, "not before it heard from it"
    reply = high.ready(PEERS[0], first, now)
    assert reply.counts
    assert who_counts() == [False, False]
    low.answered(Call(PEERS[5], first), reply, now)
    assert who_counts() == [False, False], "5 has not heard it of 0"
    second = sent(low, Ready, 5, now)
    assert (second.counts, second.receipt, second.has) == (True, None, 1)
    answer = high.ready(PEERS[0], second, now)
    assert who_counts() == [False, True]
    low.answered(Call(PEERS[5], second), answer, now)
    assert who_counts() == [True, True]
    assert not [c for c in low.calls(now + 9) if c.to == PEERS[5]]
    assert not [c for c in high.calls(now + 9) if c.to == PEERS[0]]


def test_who_says_it_again_has_not_heard_the_reply_and_is_called(exchanged: Network) -> None:
    """Its replies to that one may all get lost: then they would be a one-sided pair."""
    alone(exchanged, 0, 5)
    low, high, now = round_of(exchanged, 0), round_of(exchanged, 5), exchanged.now + LONGEST_S
    low.answered(
        Call(PEERS[5], first := sent(low, Ready, 5, now)), high.ready(PEERS[0], first, now), now
    )
    second = sent(low, Ready, 5, now)
    high.ready(PEERS[0], second, now)
    assert 0 in high._counted()
    high.ready(PEERS[0], second, now)
    assert 0 not in high._counted()
    call = sent(high, Ready, 0, now)
    high.answered(Call(PEERS[0], call), low.ready(PEERS[5], call, now), now)
    assert 0 in high._counted()
    assert 5 in low._counted()


def test_who_has_signed_nothing_itself_counts_nobody(ready: Network) -> None:
    """Its exchange is not over, and what it says now in a reply may never be heard."""
    peer = round_of(ready, 0)
    assert peer._says(1)
    del peer._receipts._newest[0]
    assert not peer._says(1)


def test_whom_it_has_not_heard_counts_for_nobody(ready: Network) -> None:
    """Its receipt may have been relayed: then the pair shares no link."""
    peer = round_of(ready, 0)
    peer._of[1].heard = False
    assert not peer._says(1)


def test_a_late_ready_is_told_that_it_does_not_count() -> None:
    network = Network(make_ticket(8), cut=cut((0, 5))).until("ready")
    peer = round_of(network, 5)
    network.mask(PEERS[5])
    reply = peer.ready(PEERS[0], ready_of(network, 0, 5), network.now)
    assert (reply.counts, reply.closed) == (False, True)


def test_a_reply_that_does_not_count_any_more_takes_the_pair_back(ready: Network) -> None:
    caller = round_of(ready, 0)
    assert caller.all_count
    call = Call(PEERS[5], Ready(ready.ticket.digest))
    caller.answered(call, ReadyReply(counts=False, closed=True), ready.now)
    assert 5 not in caller._counted()
    assert not [c for c in caller.calls(ready.now + 9) if c.to == PEERS[5]], "it is final"


def test_whom_a_peer_masked_with_it_says_it_counts(ready: Network) -> None:
    ready.mask(PEERS[5])
    reply = round_of(ready, 5).ready(PEERS[0], Ready(ready.ticket.digest, has=1), ready.now)
    assert (reply.counts, reply.closed) == (True, True)


def test_a_pair_whose_exchange_failed_counts_with_an_announcement_and_a_share(
    network: Network,
) -> None:
    network.cut = cut((0, 5))
    network.exchange()
    network.now = EXCHANGE_S
    low, high = round_of(network, 0), round_of(network, 5)
    for round_ in (low, high):
        round_.calls(network.now)
    message = low._ready_for(5, 0)
    assert message.announcement == low.announcement
    reply = high.ready(PEERS[0], message, network.now)
    assert reply.announcement == high.announcement
    low.answered(Call(PEERS[5], message), reply, network.now)
    for one, other in ((low, high), (high, low)):
        assert one._receipts.number(other.me) == 1
        share = other._open_secrets().dealt[one.me].failure_share
        assert one._of[other.me].failure_share == share


# -- two announcements --------------------------------------------------------------------------------


def proof_against(network: Network, index: int) -> Equivocation:
    return Equivocation(round_of(network, index).announcement, second_announcement(network, index))


def test_a_proof_goes_to_all_who_do_not_have_it(exchanged: Network) -> None:
    peer, now, proof = (
        round_of(exchanged, 3),
        exchanged.now + LONGEST_S,
        proof_against(exchanged, 6),
    )
    peer.ready(PEERS[1], Ready(exchanged.ticket.digest, proofs=(proof,)), now)
    shown = {c.to: c.message.proofs for c in peer.calls(now) if isinstance(c.message, Ready)}
    assert shown == {
        peer_id: () if peer_id == PEERS[1] else (proof,)
        for peer_id in (c for c in PEERS if c != PEERS[3])
        if peer_id in shown
    }
    assert {peer_id for peer_id, proofs in shown.items() if proofs} == {*PEERS} - {
        PEERS[1],
        PEERS[3],
    }
    (found,) = peer.proven()
    assert (found.reason, found.peer) == (Reason.EQUIVOCATION, PEERS[6])
    assert peer.proven() == []


def test_who_made_two_announcements_is_not_waited_for(ready: Network) -> None:
    peer = round_of(ready, 3)
    message = Ready(ready.ticket.digest, proofs=(proof_against(ready, 6),), has=1)
    peer.ready(PEERS[1], message, ready.now)
    assert 6 not in peer._counted()
    assert peer.all_count
    assert peer.masks_available(ready.now)


def test_a_proof_that_is_none_names_who_sent_it(exchanged: Network) -> None:
    forged = replace(second_announcement(exchanged, 6), signature=bytes(64))
    proof = Equivocation(round_of(exchanged, 6).announcement, forged)
    peer = round_of(exchanged, 3)
    with pytest.raises(RemoteError) as error:
        peer.ready(PEERS[1], Ready(exchanged.ticket.digest, proofs=(proof,)), exchanged.now)
    assert refused(error, Reason.BAD_SIGNATURE, PEERS[1])
    assert peer.proven() == []


def test_a_second_announcement_in_an_exchange_or_a_ready_is_a_proof(exchanged: Network) -> None:
    peer, other = round_of(exchanged, 5), twin(exchanged, PEERS[0])
    announced = Ready(exchanged.ticket.digest, announcement=other.announcement)
    for _ in range(2):
        with pytest.raises(RemoteError) as error:
            peer.ready(PEERS[0], announced, exchanged.now)
        assert refused(error, Reason.EQUIVOCATION, PEERS[0])
    with pytest.raises(RemoteError) as error:
        peer.exchange(PEERS[0], sent(other, Exchange, 5, 0.0), exchanged.now)
    assert refused(error, Reason.EQUIVOCATION, PEERS[0])
    assert [item.dealer for item in peer._receipts.announcements.equivocations.values()] == [0]


def test_one_proof_is_enough_and_no_third_announcement_is_kept(exchanged: Network) -> None:
    peer = round_of(exchanged, 5)
    before = len(peer._receipts.announcements._by_hash)
    for seed in range(5):
        message = Ready(
            exchanged.ticket.digest, announcement=second_announcement(exchanged, 0, seed)
        )
        with pytest.raises(RemoteError):
            peer.ready(PEERS[0], message, exchanged.now)
    assert len(peer._receipts.announcements._by_hash) == before + 1


# -- what is lacking ----------------------------------------------------------------------------------


def lacking() -> Network:
    """The exchange deadline is past. 0 and 1 share no link, and 7 is lost; receipts went around directly."""
    network = Network(make_ticket(8), lost={PEERS[7]: "exchange"}).until("exchange")
    network.cut = cut((0, 1), (0, 2))
    network.now = EXCHANGE_S
    network.pump((Ready,))
    return network


def test_receipts_are_asked_for_from_a_second_after_the_exchange_deadline() -> None:
    network, late = lacking(), EXCHANGE_S + LACKING_AFTER_S
    peer = round_of(network, 0)
    assert {holder for holder, _ in peer._receipts.numbers} == {0, 3, 4, 5, 6}
    assert not peer._receipts.is_ready(3), "4, 5, 6 and 0 are too few"
    made = [c.message for c in peer.calls(late - 0.001) if isinstance(c.message, Ready)]
    assert all(message.have is None for message in made)
    peer = round_of(network, 0)
    event = peer.next_event(late - 0.001)
    assert event is not None
    assert event <= late
    call = sent(peer, Ready, 3, late)
    assert call.have == peer._receipts.numbers
    reply = round_of(network, 3).ready(PEERS[0], call, late)
    assert [receipt.holder for receipt in reply.relays] == [1, 2]
    peer.answered(Call(PEERS[3], call), reply, late)
    assert peer._receipts.is_ready(3)


def test_who_lacks_nothing_asks_for_nothing(ready: Network) -> None:
    for peer in PEERS:
        calls = ready.rounds[peer].calls(EXCHANGE_S + 9)
        assert not [c for c in calls if isinstance(c.message, Ready)]


def test_it_is_asked_for_again_and_again_while_it_is_lacking() -> None:
    network = lacking()
    peer, times = round_of(network, 0), list[float]()
    now = EXCHANGE_S + 0.5
    while now < READY_S:
        for call in peer.calls(now):
            if isinstance(call.message, Ready) and call.to == PEERS[3] and call.message.have:
                times.append(now)
                peer.answered(call, ReadyReply(), now)
            else:
                peer.failed(call, now)
        now += 0.1
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert len(times) == 7
    assert all(gap == pytest.approx(LONGEST_S, abs=0.21) for gap in gaps)


def test_who_cannot_reach_a_dealer_learns_its_announcement_from_its_holders() -> None:
    network = Network(make_ticket(8), cut=cut((0, 5))).until("exchange")
    peer = round_of(network, 0)
    network.now = EXCHANGE_S
    network.pump((Ready,))
    assert 5 not in peer._receipts.announcements.first
    assert not peer._receipts.is_ready(3)
    network.now = EXCHANGE_S + LACKING_AFTER_S
    network.pump((Ready, ListRequest))
    assert peer._receipts.announcements.first[5] == round_of(network, 5).announcement
    assert all(peer._receipts.is_ready(dealer) for dealer in range(8))
    assert 5 not in peer._counted(), "they have not heard of each other"
