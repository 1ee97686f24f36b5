"""Rounds in which training fails on some: those that trained are summed, if they are enough."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from smpc.v1 import messages_pb2
from smpcfl.net import ready_wire
from smpcfl.protocol import failures, trailer
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.messages import Agreement, Exchange, Ready
from smpcfl.protocol.policy import Policy
from smpcfl.protocol.ticket import ADDITIVE, SEEDED
from support.forge import agreement, round_of, seeded, sent, survivors
from support.network import POLICY, Network, make_ticket, peer_ids

PEERS = peer_ids(8)
EVERYONE = tuple(range(8))


def failing(count: int, *, mode: str = SEEDED, policy: Policy = POLICY, **changes: int) -> Network:
    """Eight peers, of whom the last `count` upload a zero."""
    signed = make_ticket(8, mode=mode, **changes)
    return Network(signed, failing=set(PEERS[8 - count :]), policy=policy)


def reasons(network: Network) -> set[Reason]:
    return {error.reason for _, error in network.errors if isinstance(error, RemoteError)}


@pytest.mark.parametrize("mode", [SEEDED, ADDITIVE])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_round_where_some_training_failed_completes_with_the_rest(mode: str, count: int) -> None:
    network = failing(count, mode=mode)
    total = network.run()
    assert total == network.expected()
    assert network.survivors == list(PEERS)
    counters = trailer.decode(total.wide[-trailer.LENGTH :], 8)
    assert (counters.peers, counters.contributors, counters.examples) == (8, 8 - count, 8 - count)


@pytest.mark.parametrize(
    ("ticket_floor", "own_floor", "count", "void"),
    [(6, 3, 2, False), (6, 3, 3, True), (3, 6, 2, False), (3, 6, 3, True), (3, 3, 5, False)],
)
def test_fewer_that_trained_than_either_floor_are_not_unmasked(
    ticket_floor: int, own_floor: int, count: int, void: bool
) -> None:
    policy = replace(POLICY, min_survivors=own_floor)
    network = failing(count, policy=policy, min_survivors=ticket_floor)
    if not void:
        if ticket_floor >= own_floor:
            assert network.run() == network.expected()
        return
    with pytest.raises(RemoteError) as error:
        network.run()
    assert error.value.reason is Reason.TOO_FEW_ANSWERS
    assert reasons(network) == {Reason.TOO_FEW_CONTRIBUTORS}
    assert len(network.errors) == 8
    assert not network.aggregator._answered, "nobody shows a share"


def test_those_that_dropped_are_not_counted_as_having_trained() -> None:
    signed = make_ticket(8, min_survivors=6)
    network = Network(signed, failing={PEERS[7]}, lost={PEERS[0]: "upload"})
    assert network.run() == network.expected()
    network = Network(signed, failing={PEERS[6], PEERS[7]}, lost={PEERS[0]: "upload"})
    with pytest.raises(RemoteError):
        network.run()
    assert reasons(network) == {Reason.TOO_FEW_CONTRIBUTORS}


# -- the count itself ---------------------------------------------------------------------------------------


def agreed(network: Network) -> list[Agreement]:
    message = survivors(network, EVERYONE)
    return [agreement(network, index, message) for index in EVERYONE]


def test_a_failed_training_looks_like_any_other_to_whoever_has_the_header_alone() -> None:
    networks = failing(0).until("upload"), failing(1).until("upload")
    one, other = (network.uploads[PEERS[7]].header for network in networks)
    assert (other.masked_failure - one.masked_failure) % failures.PRIME == 1
    assert replace(one, masked_failure=0, signature=bytes(64)) == replace(
        other, masked_failure=0, signature=bytes(64)
    )


def test_an_answer_waits_for_t_plus_1_counts_its_own_included() -> None:
    network = failing(1).until("upload")
    peer, message = round_of(network, 0), survivors(network, EVERYONE)
    peer.survivors(message, network.now)
    found, t = agreed(network), network.ticket.threshold
    for item in found[1:t]:
        peer.agreement(item)
        assert peer.answer(network.now) is None
    peer.agreement(found[t])
    assert peer.answer(network.now) is not None


def test_agreements_without_a_count_are_agreements_but_no_counts() -> None:
    network = failing(1).until("upload")
    peer, message = round_of(network, 0), survivors(network, EVERYONE)
    peer.survivors(message, network.now)
    found, t = agreed(network), network.ticket.threshold
    round_of(network, 1)._of[5].failure_share = None  # as of one that never met 5
    lacking = agreement(network, 1, message)
    assert lacking.failure_sum is None
    for item in (lacking, *found[2 : t + 1]):
        peer.agreement(item)
    assert peer.answer(network.now) is None, "t agree, and one of them cannot count"
    with pytest.raises(RemoteError) as error:
        peer.answer(network.ticket.deadlines.agree / 1000)
    assert error.value.reason is Reason.TOO_FEW_AGREEMENTS
    peer.agreement(found[t + 1])
    assert peer.answer(network.now) is not None


def test_a_false_count_stops_the_round_and_bares_nobody() -> None:
    network = failing(0).until("upload")
    peer, message = round_of(network, 0), survivors(network, EVERYONE)
    peer.survivors(message, network.now)
    liar = round_of(network, 1)
    true = liar._failure_sum(EVERYONE)
    assert true is not None
    liar._failure_sum = lambda chosen: (true + 1) % failures.PRIME  # type: ignore[method-assign]
    for item in agreed(network)[1:]:
        peer.agreement(item)
    with pytest.raises(RemoteError) as error:
        peer.answer(network.now)
    assert error.value.reason is Reason.TOO_FEW_CONTRIBUTORS


def test_a_second_count_of_one_neighbour_is_equivocation() -> None:
    network = failing(0).until("upload")
    found = agreed(network)[1]
    peer, liar = round_of(network, 0), round_of(network, 1)
    peer.agreement(found)
    liar._failure_sum = lambda chosen: 5  # type: ignore[method-assign]
    with pytest.raises(RemoteError) as error:
        peer.agreement(agreed(network)[1])
    assert error.value.reason is Reason.EQUIVOCATION


def test_the_count_is_signed_with_the_agreement_and_the_header() -> None:
    network = failing(0).until("upload")
    found = agreed(network)[1]
    assert found.failure_sum is not None
    for other in (None, found.failure_sum ^ 1):
        with pytest.raises(RemoteError) as error:
            round_of(network, 0).agreement(replace(found, failure_sum=other))
        assert error.value.reason is Reason.BAD_SIGNATURE
    header = network.uploads[PEERS[1]].header
    header.check(network.ticket, network.keyring)
    changed = replace(header, masked_failure=header.masked_failure ^ 1)
    with pytest.raises(RemoteError) as error:
        changed.check(network.ticket, network.keyring)
    assert error.value.reason is Reason.BAD_SIGNATURE


def test_who_has_an_announcement_by_ready_alone_can_count_as_well() -> None:
    signed, unheard = make_ticket(8), {(PEERS[0], PEERS[5])}
    network = Network(signed, failing={PEERS[5]}, unheard=unheard).until("exchange")
    network.unheard.clear()
    network._lose("ready")
    for deadline in (signed.ticket.deadlines.exchange, signed.ticket.deadlines.ready):
        network.now = deadline / 1000
        network.pump((Ready,))
    network.upload()
    peer, message = round_of(network, 0), survivors(network, EVERYONE)
    assert 5 not in peer._of.held, "the reply to its exchange was lost"
    assert 5 in peer.header.counts  # type: ignore[union-attr]
    assert agreement(network, 0, message).failure_sum is not None
    assert network.unmask() == network.expected()
    found = [seeded(round_)._agreement for round_ in network.rounds.values()]
    sums = {item.peer: item.failure_sum for item in found if item and item.failure_sum is not None}
    assert len(sums) == 8
    hidden = [upload.header.masked_failure for upload in network.uploads.values()]
    for t_plus_1 in itertools.combinations(sums.items(), signed.ticket.threshold + 1):
        assert failures.opened(hidden, dict(t_plus_1)) == 1


def test_the_share_that_comes_with_a_ready_comes_over_the_wire() -> None:
    network = Network(make_ticket(8), unheard={(PEERS[0], PEERS[5])}).until("exchange")
    network.now = network.ticket.deadlines.exchange / 1000
    message = sent(round_of(network, 5), Ready, 0, network.now)
    assert message.announcement is not None
    assert message.failure_share
    raw = ready_wire.ready_to_proto(message).SerializeToString()
    read = ready_wire.ready_from_proto(messages_pb2.Ready.FromString(raw), network.ticket.digest)
    assert read == message


def test_a_second_failure_share_of_a_dealer_changes_nothing() -> None:
    network = failing(1)
    network.start()
    network.exchange()
    peer, other = round_of(network, 3), round_of(network, 0)
    dealt, first = other._open_secrets().dealt[3], peer._of[0].failure_share
    false = Exchange(other.announcement, replace(dealt, failure_share=dealt.failure_share ^ 1))
    peer.exchange(network.ticket.cohort[0], false, network.now)
    assert peer._of[0].failure_share == first == dealt.failure_share
