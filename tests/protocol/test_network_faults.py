"""Cut links, one-way loss and latency: each ends in a decision by deadline, and in the largest exact sum."""

from __future__ import annotations

from dataclasses import replace

import pytest

from smpcfl.protocol.errors import Reason
from smpcfl.protocol.phases import Phase
from smpcfl.protocol.ticket import ADDITIVE, SEEDED, Deadlines
from support.faults import HUB, Crash, Cut, Delay, Fault, Late, Pause, Schedule, Slow
from support.invariants import play
from support.network import make_ticket
from support.timed import SHORT, Timed, timed

N = 8
VICTIM = 3
OTHERS = [i for i in range(N) if i != VICTIM]
TICKET_CAME = 0.1  # by then the aggregator's ticket is with everyone
BY_ALL = list(range(N))


def played(*faults: Fault, mode: str = SEEDED, seed: int = 0) -> tuple[Timed, str]:
    network = timed(Schedule(seed, N, faults, mode))
    return network, play(network)


def members(network: Timed) -> list[int]:
    return [network.ticket.index(peer) for peer in network.survivors]


def from_victim(at: float = 0.0) -> list[Fault]:
    return [Cut(VICTIM, other, at) for other in OTHERS]


def to_victim(at: float = 0.0) -> list[Fault]:
    return [Cut(other, VICTIM, at) for other in OTHERS]


# -- one peer cut off ---------------------------------------------------------------------------------


def test_cut_off_from_the_other_peers_alone() -> None:
    network, outcome = played(*from_victim(), *to_victim())
    assert outcome == "complete"
    assert members(network) == OTHERS
    assert network.ticket.cohort[VICTIM] not in network.uploads


@pytest.mark.parametrize("at", [0.0, TICKET_CAME])
def test_cut_off_from_the_aggregator_alone(at: float) -> None:
    network, outcome = played(Cut(VICTIM, HUB, at), Cut(HUB, VICTIM, at))
    assert outcome == "complete"
    assert members(network) == OTHERS
    assert all(peer != network.ticket.cohort[VICTIM] for peer, _ in network.answers)


def test_deaf_to_the_aggregator() -> None:
    network, outcome = played(Cut(HUB, VICTIM, TICKET_CAME))
    assert outcome == "complete"
    assert members(network) == BY_ALL


def test_unheard_by_the_aggregator() -> None:
    network, outcome = played(Cut(VICTIM, HUB, TICKET_CAME))
    assert outcome == "complete"
    assert members(network) == OTHERS


@pytest.mark.parametrize("cut", [from_victim, to_victim], ids=["unheard", "deaf"])
def test_one_way_loss_between_one_peer_and_all_others(cut: object) -> None:
    network, outcome = played(*cut())  # type: ignore[operator]
    assert outcome == "complete"
    assert members(network) == OTHERS


@pytest.mark.parametrize("at", [0.15, 0.25, 0.4, 0.6, 0.9, 1.3, 1.6])
@pytest.mark.parametrize("cut", [from_victim, to_victim], ids=["unheard", "deaf"])
def test_one_way_loss_that_begins_within_the_round(cut: object, at: float) -> None:
    network, outcome = played(*cut(at))  # type: ignore[operator]
    assert outcome == "complete"
    # Where it is one-sided with one other alone, either of the two is left out.
    assert len(members(network)) >= N - 1


@pytest.mark.parametrize("seconds", [0.5, 1.0, 2.0, 4.0])
def test_a_cut_that_heals_before_the_exchange_deadline_costs_nobody_the_round(
    seconds: float,
) -> None:
    faults = [replace(cut, seconds=seconds) for cut in (*from_victim(), *to_victim())]  # type: ignore[call-arg]
    network, outcome = played(*faults)
    assert outcome == "complete"
    assert members(network) == BY_ALL


# -- pairs, halves ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("one", "other"), [(0, 1), (0, 7), (6, 7), (2, 5)])
def test_a_pair_that_cannot_reach_each_other_is_no_loss(one: int, other: int) -> None:
    network, outcome = played(Cut(one, other), Cut(other, one))
    assert outcome == "complete"
    assert members(network) == BY_ALL


@pytest.mark.parametrize(("one", "other"), [(0, 1), (1, 0), (0, 7), (7, 0), (2, 5), (5, 2)])
def test_a_pair_with_one_way_loss_costs_at_most_one_peer(one: int, other: int) -> None:
    network, outcome = played(Cut(one, other))
    assert outcome == "complete"
    assert len(members(network)) >= N - 1
    assert set(BY_ALL) - set(members(network)) <= {one, other}


def test_a_ready_that_does_not_get_through_makes_no_one_sided_pair() -> None:
    """7 is ready before 0, and tells it; 0 cannot tell 7, so it does not count it either."""
    late = Delay(0, 3, 1, 1.2)  # its exchange with 3, after the ticket
    network, outcome = played(late, Cut(0, 7, 0.75))
    assert outcome == "complete"
    assert members(network) == BY_ALL
    assert 7 not in network.uploads[network.ticket.cohort[0]].header.counts


def test_whoever_has_too_few_holders_is_ready_for_nobody() -> None:
    """Three of seven neighbours out of reach: four hold its shares, where five are the threshold."""
    cuts = [Cut(*pair) for other in (0, 1, 7) for pair in ((VICTIM, other), (other, VICTIM))]
    network, outcome = played(*cuts)
    assert outcome == "complete"
    assert members(network) == OTHERS
    assert all(VICTIM not in upload.header.counts for upload in network.uploads.values())


def test_a_pair_cut_and_one_peer_lost_are_two_losses() -> None:
    network, outcome = played(Cut(0, 1), Cut(1, 0), Crash(7, "exchange", 2))
    assert outcome == "complete"
    assert (
        len(network.survivors) == N - 2
    )  # t + 1 others have to hold everyone's share of the failures
    assert set(BY_ALL[2:-1]) <= set(members(network))


def test_two_pairs_cut_and_one_peer_lost_are_three_losses() -> None:
    cuts = [Cut(0, 1), Cut(1, 0), Cut(2, 3), Cut(3, 2)]
    assert played(*cuts)[1] == "complete"
    assert played(*cuts, Crash(7, "exchange", 2))[1] == Reason.TOO_FEW_SURVIVORS


def test_halves_that_do_not_reach_each_other_void_the_round() -> None:
    low, high = range(4), range(4, 8)
    cuts = [Cut(a, b) for a in low for b in high] + [Cut(b, a) for a in low for b in high]
    _, outcome = played(*cuts)
    assert outcome == Reason.TOO_FEW_SURVIVORS


def test_halves_that_part_after_the_uploads_void_the_round() -> None:
    """Nobody gets t agreements, and nobody answers: a split cohort must not answer for two sets."""
    low, high = range(4), range(4, 8)
    cuts = [Cut(a, b, 1.02) for a in low for b in high] + [
        Cut(b, a, 1.02) for a in low for b in high
    ]
    network, outcome = played(*cuts)
    assert len(network.survivors) == N
    assert outcome == Reason.TOO_FEW_ANSWERS
    assert not network.answers


# -- slow ---------------------------------------------------------------------------------------------


def slow_network(latency_s: float, *faults: Fault, mode: str = SEEDED) -> Timed:
    """With the deadlines and time-outs that are the default."""
    signed = make_ticket(N, mode=mode, body=3, deadlines=Deadlines())
    return Timed(signed, cheap=True, faults=faults, latency_s=latency_s, call_s=5.0)


@pytest.mark.parametrize("mode", [SEEDED, ADDITIVE])
@pytest.mark.parametrize("latency_s", [0.5, 1.0, 2.0])
def test_seconds_of_latency_are_no_loss(latency_s: float, mode: str) -> None:
    network = slow_network(latency_s, mode=mode)
    assert play(network) == "complete"
    assert members(network) == BY_ALL


@pytest.mark.parametrize("mode", [SEEDED, ADDITIVE])
def test_more_latency_than_a_call_may_take_voids_the_round(mode: str) -> None:
    assert play(slow_network(3.0, mode=mode)) == Reason.TOO_FEW_SURVIVORS


def test_one_peer_behind_a_slow_link_costs_no_other() -> None:
    late: list[Fault] = []
    for other in (*OTHERS, HUB):
        for number in range(60):
            late += [Delay(VICTIM, other, number, 3.0), Delay(other, VICTIM, number, 3.0)]
    network = slow_network(0.0, *late)
    assert play(network) == "complete"
    assert set(OTHERS) <= set(members(network))


@pytest.mark.parametrize("at", [0.0, 0.1, 0.3, 0.6, 1.01, 1.1, 1.2, 1.3])
def test_a_peer_that_stands_still_past_every_deadline(at: float) -> None:
    network, outcome = played(Pause(VICTIM, at, 60.0))
    assert outcome == "complete"
    assert set(OTHERS) <= set(members(network))
    for round_ in network.rounds.values():
        assert round_.phase is Phase.CLOSED


@pytest.mark.parametrize("seconds", [6.0, 13.0, 30.0])
def test_a_ticket_that_comes_late_from_the_aggregator(seconds: float) -> None:
    """Its neighbours pass it on in time, so that it is ready; whether it counts depends on its training."""
    network, outcome = played(Late(VICTIM, seconds))
    assert outcome == "complete"
    assert members(network) == (BY_ALL if seconds < SHORT.upload / 1000 - 2 else OTHERS)


def test_training_beyond_the_upload_deadline_costs_nobody_else() -> None:
    network, outcome = played(Slow(VICTIM, 30.0))
    assert outcome == "complete"
    assert members(network) == OTHERS
