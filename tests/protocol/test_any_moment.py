"""Any two of eight peers may vanish at any moment of a round, and the round still counts."""

from __future__ import annotations

from itertools import combinations

import pytest

from smpcfl.protocol.errors import Reason
from smpcfl.protocol.ticket import ADDITIVE, SEEDED
from support.faults import Crash, Fault, Schedule
from support.invariants import play
from support.timed import Timed, timed

N = 8
# What a peer does next, or did last, when it is killed: (act, how many before it, killed after it).
MOMENTS = {
    "before the ticket": ("ticket", 0, False),
    "with the ticket": ("ticket", 0, True),
    "in the exchange, a message unhandled": ("exchange", 3, False),
    "in the exchange, a message handled": ("exchange", 3, True),
    "between exchange and ready": ("exchange", 5, True),
    "at its first ready": ("ready", 0, False),
    "amid ready, a message unhandled": ("ready", 3, False),
    "amid ready, a message handled": ("ready", 3, True),
    "after ready": ("ready", 5, True),
    "in training": ("train", 0, False),
    "masked": ("train", 0, True),
    "after its upload": ("upload", 0, True),
    "in agree, the survivors unhandled": ("survivors", 0, False),
    "in agree, the survivors handled": ("survivors", 0, True),
    "in agree, an agreement unhandled": ("agree", 3, False),
    "in agree, an agreement handled": ("agree", 3, True),
    "in unmask, before its answer": ("answer", 0, False),
    "in unmask, after its answer": ("answer", 0, True),
}
NAMES = list(MOMENTS)
UPLOADED = NAMES.index("after its upload")
IN_ADDITIVE = [name for name in NAMES[: UPLOADED + 1] if MOMENTS[name][0] not in ("ready",)]


def crash(peer: int, moment: str, back_s: float | None = None) -> Crash:
    act, number, after = MOMENTS[moment]
    return Crash(peer, act, number, after, back_s)


def played(*faults: Fault, mode: str = SEEDED) -> tuple[Timed, str]:
    network = timed(Schedule(len(faults), N, faults, mode))
    return network, play(network)


def expect_exactly(network: Timed, outcome: str, lost: dict[int, str]) -> None:
    """The round completes with all but those who were lost before their upload left them."""
    early = {peer for peer, moment in lost.items() if NAMES.index(moment) < UPLOADED}
    cohort = network.ticket.cohort
    assert outcome == "complete"
    assert network.survivors == [cohort[i] for i in range(N) if i not in early]
    assert network.alive == {cohort[i] for i in range(N) if i not in lost}


@pytest.mark.parametrize("moment", MOMENTS)
def test_any_two_lost_at_any_moment(moment: str) -> None:
    for pair in combinations(range(N), 2):
        network, outcome = played(*(crash(peer, moment) for peer in pair))
        expect_exactly(network, outcome, dict.fromkeys(pair, moment))


@pytest.mark.parametrize("place", range(len(NAMES)))
def test_two_lost_at_different_moments(place: int) -> None:
    for other in range(place):
        first, second = (place + other) % N, (place + 3 * other + 5) % N
        lost = {first: NAMES[place], second: NAMES[other]}
        network, outcome = played(*(crash(peer, moment) for peer, moment in lost.items()))
        expect_exactly(network, outcome, lost)


@pytest.mark.parametrize("moment", MOMENTS)
def test_two_that_come_back_take_no_further_part(moment: str) -> None:
    network, outcome = played(crash(0, moment, back_s=0.5), crash(5, moment, back_s=3.0))
    late = moment == "before the ticket"  # then it is as if they had started later
    assert outcome == "complete"
    assert len(network.alive) == N
    for index in (0, 5):
        peer = network.ticket.cohort[index]
        assert (peer in network.rounds) == late
        assert (peer in network.survivors) == (NAMES.index(moment) >= UPLOADED)


@pytest.mark.parametrize("moment", NAMES[:-1])
def test_three_lost_void_the_round_by_its_deadline_with_a_reason(moment: str) -> None:
    for three in ((0, 1, 2), (5, 6, 7), (0, 4, 7)):
        network, outcome = played(*(crash(peer, moment) for peer in three))
        early = NAMES.index(moment) < UPLOADED
        assert outcome == (Reason.TOO_FEW_SURVIVORS if early else Reason.TOO_FEW_ANSWERS)
        assert str(network.void)


def test_three_lost_after_their_answers_do_not_matter() -> None:
    network, outcome = played(*(crash(peer, NAMES[-1]) for peer in (1, 3, 6)))
    expect_exactly(network, outcome, dict.fromkeys((1, 3, 6), NAMES[-1]))


@pytest.mark.parametrize("moment", IN_ADDITIVE)
def test_additive_is_void_with_one_lost(moment: str) -> None:
    for peer in range(N):
        _, outcome = played(crash(peer, moment), mode=ADDITIVE)
        uploaded = moment == "after its upload"
        assert outcome == ("complete" if uploaded else Reason.TOO_FEW_SURVIVORS)
