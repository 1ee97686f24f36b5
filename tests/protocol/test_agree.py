"""Agree and unmask, from one peer's side: what survivor set it signs, and what it then shows."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.messages import Agreement, Answer, Survivors
from smpcfl.protocol.phases import Phase
from smpcfl.protocol.survivors import choose_survivors, mutual, one_sided
from support.forge import (
    agreement,
    header,
    headers_of,
    round_of,
    second_announcement,
    seeded,
    survivors,
)
from support.network import Network, make_ticket, peer_ids
from support.weakened import WithoutAgreement

PEERS = peer_ids(8)
EVERYONE = tuple(range(8))


@pytest.fixture
def network() -> Network:
    return Network(make_ticket(8)).until("upload")


def refuse(network: Network, message: Survivors, reason: Reason, *, at: int = 0) -> RemoteError:
    """The refusal; the peer's phase stays as it was, and nothing is signed."""
    peer = round_of(network, at)
    before = peer.phase
    with pytest.raises(RemoteError) as error:
        peer.survivors(message, network.now)
    assert error.value.reason is reason
    assert peer.phase is before
    assert not [c for c in peer.calls(network.now) if isinstance(c.message, Agreement)]
    return error.value


def others(index: int, *, but: tuple[int, ...] = ()) -> list[int]:
    return [j for j in EVERYONE if j != index and j not in but]


# -- survivor sets that are refused -----------------------------------------------------------------


def test_a_true_set_is_agreed_to(network: Network) -> None:
    peer = round_of(network, 0)
    peer.survivors(survivors(network, EVERYONE), network.now)
    assert peer.phase is Phase.AGREED
    told = {c.to for c in peer.calls(network.now) if isinstance(c.message, Agreement)}
    assert told == set(PEERS[1:])


def test_a_set_of_another_ticket(network: Network) -> None:
    message = replace(survivors(network, EVERYONE), ticket_digest=bytes(32))
    refuse(network, message, Reason.UNKNOWN_TICKET)


def test_a_set_beyond_the_cohort(network: Network) -> None:
    members = (*EVERYONE, 8)
    refuse(network, replace(survivors(network, EVERYONE), survivors=members), Reason.NOT_IN_COHORT)


@pytest.mark.parametrize("signer", [PEERS[0], PEERS[5], "registry"])
def test_a_set_that_the_aggregator_did_not_sign(network: Network, signer: str) -> None:
    refuse(network, survivors(network, EVERYONE, signer=signer), Reason.BAD_SIGNATURE)


def test_a_set_changed_on_its_way(network: Network) -> None:
    changed = replace(survivors(network, EVERYONE[:7]), survivors=EVERYONE)
    refuse(network, changed, Reason.BAD_SIGNATURE)


def test_a_set_below_the_tickets_floor(network: Network) -> None:
    assert network.ticket.min_survivors == 6
    refuse(network, survivors(network, EVERYONE[:5]), Reason.TOO_FEW_SURVIVORS)


def test_a_set_below_the_peers_own_floor(network: Network) -> None:
    round_of(network, 0)._policy = replace(network.policy, min_survivors=8)
    refuse(network, survivors(network, EVERYONE[:7]), Reason.TOO_FEW_SURVIVORS)


def test_headers_that_are_not_the_digested_ones(network: Network) -> None:
    true = survivors(network, EVERYONE)
    apart = headers_of(network, EVERYONE)  # 3 and 5 leave each other out: consistent, but not these
    apart[3], apart[5] = (
        header(network, 3, others(3, but=(5,))),
        header(network, 5, others(5, but=(3,))),
    )
    refuse(network, replace(true, headers=tuple(apart)), Reason.BAD_HEADER)


def test_a_header_too_few(network: Network) -> None:
    message = survivors(network, EVERYONE, headers_of(network, EVERYONE[:-1]))
    assert refuse(network, message, Reason.BAD_HEADER).peer == PEERS[7]


def with_header(network: Network, index: int, *arguments: Any, **options: Any) -> Survivors:
    """Everyone survives, one with another header than it uploaded."""
    headers = headers_of(network, EVERYONE)
    headers[index] = header(network, index, *arguments, **options)
    return survivors(network, EVERYONE, headers)


def test_a_header_that_lists_somebody_outside_the_cohort(network: Network) -> None:
    message = with_header(network, 3, (*others(3), 8), others={8: bytes(32)})
    assert refuse(network, message, Reason.NOT_A_NEIGHBOUR).peer == PEERS[3]


def test_a_header_of_another_ticket(network: Network) -> None:
    message = with_header(network, 3, others(3), ticket_digest=b"\x01" * 32)
    refuse(network, message, Reason.UNKNOWN_TICKET)


@pytest.mark.parametrize("signer", ["aggregator", PEERS[4]])
def test_a_header_that_its_sender_did_not_sign(network: Network, signer: str) -> None:
    message = with_header(network, 3, others(3, but=(5,)), signer=signer)
    assert refuse(network, message, Reason.BAD_SIGNATURE).peer == PEERS[3]


def test_a_header_under_another_announcement_than_the_one_held(network: Network) -> None:
    other = second_announcement(network, 3).hash
    message = with_header(network, 3, others(3), own=other)
    assert refuse(network, message, Reason.BAD_HEADER).peer == PEERS[3]


@pytest.mark.parametrize("named", [0, 5])
def test_a_header_that_lists_another_announcement(network: Network, named: int) -> None:
    other = second_announcement(network, named).hash
    message = with_header(network, 3, others(3), others={named: other})
    refuse(network, message, Reason.BAD_HEADER)


def test_another_announcement_of_one_who_dropped(network: Network) -> None:
    other = second_announcement(network, 7).hash
    members = EVERYONE[:7]
    headers = headers_of(network, members)
    headers[3] = header(network, 3, others(3), others={7: other})
    refuse(network, survivors(network, members, headers), Reason.BAD_HEADER)


@pytest.mark.parametrize(("lists", "not_back"), [(2, 3), (3, 2), (0, 3), (3, 0)])
def test_a_pair_that_lists_one_way(network: Network, lists: int, not_back: int) -> None:
    message = with_header(network, not_back, others(not_back, but=(lists,)))
    refuse(network, message, Reason.ONE_SIDED_PAIR)


def test_a_pair_under_different_announcements() -> None:
    # Peer 0 knows nothing of 3 to compare with: the headers must contradict each other.
    network = Network(make_ticket(8)).until("upload")
    receipts = round_of(network, 0)._receipts
    del receipts.announcements.first[3], receipts._covered[3]
    message = with_header(network, 3, others(3, but=(0,)), own=second_announcement(network, 3).hash)
    refuse(network, message, Reason.ONE_SIDED_PAIR)


def test_a_survivor_without_enough_mutual_neighbours_among_the_survivors() -> None:
    # 0 counts 1..5; 1..7 count each other; U leaves 5 out, so 0 has four of five.
    cut = {(PEERS[0], PEERS[j]) for j in (6, 7)} | {(PEERS[j], PEERS[0]) for j in (6, 7)}
    network = Network(make_ticket(8), cut=cut).until("upload")
    message = survivors(network, (0, 1, 2, 3, 4, 6, 7))
    for at in (0, 1, 5, 7):
        error = refuse(network, message, Reason.ISOLATED_SURVIVOR, at=at)
        assert error.peer == PEERS[0]


def test_a_set_that_counts_a_peer_without_an_upload(network: Network) -> None:
    other = Network(make_ticket(8)).until("ready")
    other.uploads = network.uploads
    refuse(other, survivors(network, EVERYONE), Reason.WRONG_PHASE)


def test_a_set_after_the_agree_deadline(network: Network) -> None:
    network.now = 140.0
    refuse(network, survivors(network, EVERYONE), Reason.DEADLINE)


def test_a_second_set_is_refused(network: Network) -> None:
    first = survivors(network, EVERYONE)
    peer = round_of(network, 0)
    peer.survivors(first, network.now)
    peer.survivors(first, network.now)  # the same one may come again
    for second in (EVERYONE[:7], EVERYONE[1:]):
        with pytest.raises(RemoteError) as error:
            peer.survivors(survivors(network, second), network.now)
        assert error.value.reason is Reason.SECOND_SURVIVOR_SET
    headers = headers_of(network, EVERYONE)
    headers[3] = header(network, 3, others(3, but=(5,)))
    headers[5] = header(network, 5, others(5, but=(3,)))
    with pytest.raises(RemoteError) as error:
        peer.survivors(survivors(network, EVERYONE, headers), network.now)
    assert error.value.reason is Reason.SECOND_SURVIVOR_SET


def test_a_forged_second_set_is_not_the_aggregators(network: Network) -> None:
    peer = round_of(network, 0)
    peer.survivors(survivors(network, EVERYONE), network.now)
    with pytest.raises(RemoteError) as error:
        peer.survivors(survivors(network, EVERYONE[:7], signer=PEERS[4]), network.now)
    assert error.value.reason is Reason.BAD_SIGNATURE


@pytest.mark.parametrize(
    "members",
    [
        (0, 0, 1, 2, 3, 4),
        (1, 0, 2, 3, 4, 5),
        pytest.param(
            (-1, 0, 1, 2, 3, 4, 5),
        ),
    ],
)
def test_a_set_out_of_order_is_malformed(network: Network, members: tuple[int, ...]) -> None:
    true = survivors(network, EVERYONE)
    with pytest.raises(RemoteError) as error:
        refuse(network, replace(true, survivors=members, headers=()), Reason.BAD_SIGNATURE)
    assert error.value.reason is Reason.MALFORMED


# -- agreement --------------------------------------------------------------------------------------


def agree(network: Network, at: int, message: Survivors, senders: list[int]) -> None:
    for sender in senders:
        round_of(network, at).agreement(agreement(network, sender, message))


def test_exactly_the_threshold_of_neighbours_must_agree(network: Network) -> None:
    message, peer = survivors(network, EVERYONE), round_of(network, 0)
    peer.survivors(message, network.now)
    agree(network, 0, message, [1, 2, 3, 4])
    assert peer.answer(network.now) is None
    agree(network, 0, message, [4, 4])
    assert peer.answer(network.now) is None
    agree(network, 0, message, [5])
    assert peer.answer(network.now) is not None


def test_early_agreements_are_kept(network: Network) -> None:
    message, peer = survivors(network, EVERYONE), round_of(network, 0)
    agree(network, 0, message, [1, 2, 3, 4, 5])
    with pytest.raises(RemoteError) as error:
        peer.answer(network.now)
    assert error.value.reason is Reason.WRONG_PHASE
    peer.survivors(message, network.now)
    assert peer.answer(network.now) is not None


def test_agreement_to_another_set_does_not_count(network: Network) -> None:
    peer = round_of(network, 0)
    peer.survivors(survivors(network, EVERYONE), network.now)
    agree(network, 0, survivors(network, EVERYONE[:7]), [1, 2, 3])
    agree(network, 0, survivors(network, EVERYONE), [4, 5, 6, 7])
    assert peer.answer(network.now) is None


def test_agreement_to_the_same_set_with_other_headers_does_not_count(network: Network) -> None:
    peer = round_of(network, 0)
    peer.survivors(survivors(network, EVERYONE), network.now)
    headers = headers_of(network, EVERYONE)
    headers[3] = header(network, 3, others(3, but=(5,)))
    headers[5] = header(network, 5, others(5, but=(3,)))
    agree(network, 0, survivors(network, EVERYONE, headers), [1, 2, 3])
    agree(network, 0, survivors(network, EVERYONE), [4, 5, 6, 7])
    assert peer.answer(network.now) is None


def test_two_agreements_of_one_neighbour_are_equivocation(network: Network) -> None:
    agree(network, 0, survivors(network, EVERYONE), [1])
    with pytest.raises(RemoteError) as error:
        agree(network, 0, survivors(network, EVERYONE[:7]), [1])
    assert error.value.reason is Reason.EQUIVOCATION
    assert error.value.peer == PEERS[1]


@pytest.mark.parametrize("signer", ["aggregator", PEERS[0], PEERS[2]])
def test_a_forged_agreement_is_refused(network: Network, signer: str) -> None:
    message, peer = survivors(network, EVERYONE), round_of(network, 0)
    peer.survivors(message, network.now)
    for j in range(1, 8):
        if PEERS[j] == signer:
            continue
        with pytest.raises(RemoteError) as error:
            peer.agreement(agreement(network, j, message, signer=signer))
        assert error.value.reason is Reason.BAD_SIGNATURE
    assert peer.answer(network.now) is None


def test_only_a_relayed_agreement_needs_its_signature(network: Network) -> None:
    message, peer = survivors(network, EVERYONE), round_of(network, 0)
    unsigned = replace(agreement(network, 1, message), signature=bytes(64))
    for relay in (PEERS[2], "aggregator", ""):
        with pytest.raises(RemoteError) as error:
            peer.agreement(unsigned, relay)
        assert error.value.reason is Reason.BAD_SIGNATURE
    network.handle(PEERS[0], PEERS[1], unsigned)
    assert peer._of[1].agreement == unsigned


def test_ones_own_agreement_does_not_count(network: Network) -> None:
    with pytest.raises(RemoteError) as error:
        agree(network, 0, survivors(network, EVERYONE), [0])
    assert error.value.reason is Reason.NOT_A_NEIGHBOUR


def test_an_agreement_of_another_ticket_is_refused(network: Network) -> None:
    other = replace(agreement(network, 1, survivors(network, EVERYONE)), ticket_digest=bytes(32))
    with pytest.raises(RemoteError) as error:
        round_of(network, 0).agreement(other)
    assert error.value.reason is Reason.UNKNOWN_TICKET


def test_an_agreement_of_another_round_cannot_be_relayed_into_this_one(network: Network) -> None:
    """It would be kept as an early one, and the true one then refused as equivocation."""
    before = Network(make_ticket(8, serial=7)).until("upload")
    old = agreement(before, 1, survivors(before, EVERYONE))
    peer = round_of(network, 0)
    with pytest.raises(RemoteError) as error:
        peer.agreement(replace(old, ticket_digest=network.ticket.digest))
    assert error.value.reason is Reason.BAD_SIGNATURE
    peer.agreement(agreement(network, 1, survivors(network, EVERYONE)))


def test_too_few_agreements_at_the_deadline_are_a_decision(network: Network) -> None:
    message, peer = survivors(network, EVERYONE), round_of(network, 0)
    peer.survivors(message, network.now)
    agree(network, 0, message, [1, 2, 3, 4])
    assert peer.answer(139.999) is None
    with pytest.raises(RemoteError) as error:
        peer.answer(140.0)
    assert error.value.reason is Reason.TOO_FEW_AGREEMENTS
    assert (error.value.expected, error.value.found) == (5, 4)


# -- answers ----------------------------------------------------------------------------------------


def answer_of(network: Network, at: int, members: tuple[int, ...]) -> Answer:
    message = survivors(network, members)
    round_of(network, at).survivors(message, network.now)
    agree(network, at, message, others(at))
    answer = round_of(network, at).answer(network.now)
    assert answer is not None
    return answer


@pytest.mark.parametrize("at", EVERYONE)
def test_an_answer_shows_self_shares_of_survivors_and_pair_shares_of_the_dropped(
    network: Network, at: int
) -> None:
    answer = answer_of(network, at, (0, 1, 3, 4, 5, 7))
    assert {s.dealer for s in answer.self_shares} == {0, 1, 3, 4, 5, 7} - {at}
    assert {s.dealer for s in answer.pair_shares} == {2, 6} - {at}
    assert {a.dealer for a in answer.announcements} == {2, 6} - {at}


def test_a_repeated_answer_is_the_same(network: Network) -> None:
    first = answer_of(network, 0, EVERYONE)
    assert round_of(network, 0).answer(network.now) == first


def test_the_pair_secret_of_one_whom_nobody_lists_is_not_shown() -> None:
    network = Network(make_ticket(8), lost={PEERS[7]: "exchange"}).until("upload")
    answer = answer_of(network, 0, EVERYONE[:7])
    assert not answer.pair_shares


@st.composite
def lies(draw: st.DrawFn) -> list[list[int]]:
    """For each of eight peers the survivor set that it is shown."""
    sets = st.lists(st.sampled_from(EVERYONE), min_size=6, max_size=8, unique=True).map(sorted)
    few = draw(st.lists(sets, min_size=1, max_size=4))
    return [draw(st.sampled_from(few)) for _ in EVERYONE]


@settings(max_examples=40, deadline=None)
@given(lies(), st.sets(st.sampled_from(EVERYONE), max_size=2))
def test_whatever_sets_are_shown_no_peer_is_bared_of_both_secrets(
    shown: list[list[int]], lost: set[int]
) -> None:
    # Without agreement, so that everyone answers: the threshold alone must keep the two apart.
    network = Network(
        make_ticket(8),
        lost={PEERS[j]: "upload" for j in lost},
        cheap=True,
        round_class=WithoutAgreement,
    ).until("upload")
    seen: Counter[tuple[str, int]] = Counter()
    for at, members in enumerate(shown):
        if at in lost:
            continue
        round_ = round_of(network, at)
        round_.survivors(survivors(network, members), network.now)
        answer = round_.answer(network.now)
        assert answer is not None
        own = {s.dealer for s in answer.self_shares}
        pair = {s.dealer for s in answer.pair_shares}
        assert not own & pair
        assert at not in own | pair
        seen.update([("self", j) for j in own] + [("pair", j) for j in pair])
    threshold = network.ticket.threshold
    assert not any(seen["self", j] >= threshold and seen["pair", j] >= threshold for j in EVERYONE)


@settings(max_examples=30, deadline=None)
@given(lies())
def test_without_the_same_set_at_a_threshold_of_neighbours_nobody_answers(
    shown: list[list[int]],
) -> None:
    network = Network(make_ticket(8), cheap=True).until("upload")
    for at, members in enumerate(shown):
        round_of(network, at).survivors(survivors(network, members), network.now)
    network.pump((Agreement,))
    for at, members in enumerate(shown):
        same = sum(other == members for other in shown) - 1
        answer = round_of(network, at).answer(network.now)
        assert (answer is not None) == (same >= network.ticket.threshold)


# -- how the aggregator chooses ---------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_the_aggregator_chooses_every_peer_accepts(data: st.DataObject) -> None:
    pairs = [(a, b) for a in PEERS for b in PEERS if a != b]
    subset = st.sets(st.sampled_from(pairs), max_size=10)
    network = Network(make_ticket(8), cheap=True, seed=data.draw(st.integers(0, 99)))
    network.until("exchange")
    network.cut, network.unheard = data.draw(subset), data.draw(subset)
    network.ready()
    network.upload()
    headers = {u.header.sender: u.header for u in network.uploads.values()}
    chosen = choose_survivors(network.ticket, headers)
    for i, one in chosen.items():
        for j, other in chosen.items():
            assert i == j or not one_sided(one, other)
        assert sum(mutual(one, h) for j, h in chosen.items() if j != i) >= network.ticket.threshold
    if len(chosen) < network.ticket.min_survivors:
        return
    network.cut, network.unheard = set(), set()
    total = network.unmask()
    assert total == network.expected()
    assert {seeded(r).phase for r in network.rounds.values()} == {Phase.ANSWERED}
