"""Several sums over one model, each as small as peers allow, with as many colluders as the ticket withstands.

The colluders have no ledger, and name no other set when they agree. What is added is the same in each round.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest

from smpcfl.protocol import ledger as ledger_module
from smpcfl.protocol import peer_round as peer_module
from smpcfl.protocol.errors import Reason
from smpcfl.protocol.guarantee import withstands
from smpcfl.protocol.ledger import Cohort, Ledger
from smpcfl.protocol.policy import Policy
from smpcfl.protocol.ring import RingVector
from smpcfl.protocol.ticket import default_threshold
from support.attacker import show
from support.forge import agreement, round_of, survivors
from support.network import Network, make_ticket, peer_ids, random_addend, sign
from support.remembering import Remembering
from support.unchecked import check, removed

MODEL = bytes([9]) * 32
NAMES = peer_ids(19)
ADDENDS = {
    name: random_addend(make_ticket(8).ticket.layout, np.random.default_rng(place))
    for place, name in enumerate(NAMES)
}
COHORTS = check(Ledger, "check", Reason.CONFLICTING_COHORTS)
EARLIER = check(peer_module, "check_earlier", Reason.CONFLICTING_SURVIVORS)


class Attack:
    """An aggregator over one model. `ledgers`: what the honest peers remember."""

    def __init__(self, colluders: Collection[str] = (), policy: Policy | None = None) -> None:
        self.colluders = frozenset(colluders)
        self.policy = policy or Policy()
        self.ledgers: dict[str, Ledger] = {}
        self.refused: list[Reason] = []
        self._serial = 0

    def sum(
        self,
        cohort: Collection[str],
        members: Collection[str],
        asked: Collection[str] | None = None,
        *,
        least: int | None = None,
        failing: Collection[str] = (),
        lost: Collection[str] = (),
    ) -> RingVector | None:
        """Over `members`, where only `asked`, and the colluders, are shown these survivors.

        `least`: the ticket's `min_survivors`; `lost` never hear of the ticket. None if it comes to nothing.
        """
        self._serial += 1
        n, t = len(cohort), default_threshold(len(cohort) - 1)
        made = make_ticket(n, serial=self._serial, model_digest=MODEL).ticket
        ticket = replace(
            made, cohort=tuple(sorted(cohort)), threshold=t, min_survivors=least or t + 1
        )
        assert withstands(ticket) >= len(self.colluders)
        for name in self.colluders:
            self.ledgers[name] = Ledger()
        net = Remembering(
            sign(ticket),
            ledgers=self.ledgers,
            policy=self.policy,
            failing=set(failing),
        )
        net.alive -= set(lost)
        net.addends |= {name: ADDENDS[name] for name in cohort if name not in failing}
        net.start()
        self.refused += net.refusals
        net.alive &= net.rounds.keys()
        for step in (net.exchange, net.ready, net.upload):
            step()
        if not set(members) <= net.uploads.keys():
            return None
        return self._shown(net, members, cohort if asked is None else asked)

    def _shown(
        self, net: Network, members: Collection[str], asked: Collection[str]
    ) -> RingVector | None:
        index = net.ticket.index
        chosen = tuple(sorted(map(index, members)))
        message = survivors(net, chosen)
        honest = [index(name) for name in asked if name in net.uploads.keys() - self.colluders]
        theirs = [index(name) for name in self.colluders & net.uploads.keys()]

        def relay(net: Network) -> None:
            for at in honest:
                for colluder in theirs:
                    round_of(net, at).agreement(agreement(net, colluder, message))

        loot, refusals = show(net, dict.fromkeys(honest, message), relay)
        self.refused += refusals
        for colluder in theirs:
            loot.take_everything_of(colluder)
        return loot.sum_of(chosen)


def combined(sums: Sequence[RingVector | None], signs: Sequence[int]) -> RingVector | None:
    """None if one of them is missing."""
    total = make_ticket(8).ticket.layout.zeros()
    for item, times in zip(sums, signs, strict=True):
        if item is None:
            return None
        for _ in range(abs(times)):
            total = total + item if times > 0 else total - item
    return total


# -- two sets -------------------------------------------------------------------------------------------


def three_apart(attack: Attack) -> RingVector | None:
    """Two of the three peers in which the sets differ collude."""
    cohort, (one, other) = NAMES[:8], NAMES[6:8]
    attack.colluders = frozenset((one, other))
    first = attack.sum(cohort, NAMES[:6])
    second = attack.sum(cohort, (*NAMES[:5], one, other))
    return combined([first, second, ADDENDS[one], ADDENDS[other]], [1, -1, 1, 1])


def test_two_sets_three_apart_give_one_peer_where_two_of_the_three_collude() -> None:
    with patch.object(ledger_module, "difference", lambda policy, colluders: policy.min_difference):
        assert three_apart(Attack()) == ADDENDS[NAMES[5]]


def test_two_sets_differ_by_two_peers_more_than_may_collude() -> None:
    attack = Attack()
    assert three_apart(attack) is None
    assert attack.refused.count(Reason.CONFLICTING_SURVIVORS) == 6


def with_and_without_a_zero(attack: Attack) -> RingVector | None:
    """One set of survivors in two cohorts: no honest peer answers in both."""
    colluders, honest = NAMES[:2], NAMES[2:6]
    attack.colluders, members = frozenset(colluders), (*colluders, *honest)
    first = attack.sum((*members, *NAMES[6:8]), members, (*honest[:2], *NAMES[6:8]), least=5)
    second = attack.sum(
        (*members, *NAMES[8:10]),
        members,
        (*honest[2:], *NAMES[8:10]),
        least=5,
        failing=honest[:1],
    )
    return combined([first, second], [1, -1])


def test_one_set_with_and_without_a_zero_gives_one_peer_where_cohorts_need_not_be_alike() -> None:
    with removed(COHORTS):
        found = with_and_without_a_zero(Attack())
    assert found is not None
    assert np.array_equal(found.body, ADDENDS[NAMES[2]].body)


def test_who_agreed_in_one_cohort_takes_no_part_in_one_that_is_not_alike() -> None:
    attack = Attack()
    assert with_and_without_a_zero(attack) is None
    assert attack.refused.count(Reason.CONFLICTING_COHORTS) == 2


# -- all, then one part, then the other ---------------------------------------------------------------


def direct(self: Cohort, other: Cohort) -> bool:
    """Only that the quorums of these two meet."""
    most = max(self.colluders, other.colluders)
    return len(self.peers | other.peers) <= self.threshold + other.threshold - most


def parts(attack: Attack) -> RingVector | None:
    """Nine, of whom four and four are summed once more: in cohorts of five, with one that is lost."""
    victim, one, other = NAMES[0], NAMES[1:5], NAMES[5:9]
    sums = [
        attack.sum((victim, *one, *other), (victim, *one, *other), least=3),
        attack.sum((*one, other[0]), one, least=3, lost=other[:1]),
        attack.sum((*other, one[0]), other, least=3, lost=one[:1]),
    ]
    return combined(sums, [1, -1, -1])


def test_two_parts_give_the_rest_where_their_quorums_meet_that_of_all_but_not_each_other() -> None:
    with patch.object(ledger_module, "withstands", lambda ticket: 0):
        with patch.object(Cohort, "beside", direct):
            assert parts(Attack()) == ADDENDS[NAMES[0]]
        attack = Attack()
        assert parts(attack) is None
        assert (
            attack.refused.count(Reason.CONFLICTING_COHORTS) == 8
        )  # one and other, and no lost one


def whole_and_halves(attack: Attack, order: Sequence[int]) -> RingVector | None:
    """The victim and two halves that are cohorts of their own: no peer sees more than two of these sets."""
    cohorts = (NAMES[:11], NAMES[1:6], NAMES[6:11])
    sums = {which: attack.sum(cohorts[which], cohorts[which]) for which in order}
    return combined([sums[0], sums[1], sums[2]], [1, -1, -1])


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0)])
def test_disjoint_halves_give_the_rest_where_cohorts_need_not_be_alike(
    order: Sequence[int],
) -> None:
    with removed(COHORTS, EARLIER):
        assert whole_and_halves(Attack(), order) == ADDENDS[NAMES[0]]


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0)])
def test_disjoint_halves_are_refused_by_who_was_in_another_sum(order: Sequence[int]) -> None:
    attack = Attack()
    assert whole_and_halves(attack, order) is None
    assert attack.refused == [Reason.CONFLICTING_COHORTS] * 10  # all but the victim


def parts_first(attack: Attack) -> RingVector | None:
    """With a colluder, who is in both parts and names neither set."""
    colluder, one, other, victim = NAMES[0], NAMES[1:6], NAMES[6:11], NAMES[11]
    attack.colluders = frozenset([colluder])
    everyone = (*one, *other, victim, colluder)
    sums = [
        attack.sum((*one, colluder), one, least=4),
        attack.sum((*other, colluder), other, least=4),
        attack.sum(everyone, everyone),
    ]
    return combined([*sums, ADDENDS[colluder]], [-1, -1, 1, -1])


def test_parts_before_the_whole_give_the_rest_where_nobody_names_them() -> None:
    with removed(COHORTS, EARLIER):
        assert parts_first(Attack()) == ADDENDS[NAMES[11]]


def test_parts_before_the_whole_are_named_by_those_who_agreed_to_them() -> None:
    attack = Attack()
    with removed(COHORTS):
        assert parts_first(attack) is None
    assert set(attack.refused) == {Reason.CONFLICTING_SURVIVORS}
    attack = Attack()
    assert parts_first(attack) is None
    assert set(attack.refused) == {Reason.CONFLICTING_COHORTS}


# -- a peer that is shown no survivors ----------------------------------------------------------------


def test_a_third_that_is_shown_nothing_can_be_summed_alone() -> None:
    """Not defended: fourteen peers, of whom four never hear of the first sum that they are in."""
    victim, others, unaware = NAMES[0], NAMES[1:10], NAMES[10:14]
    attack = Attack()
    everyone = (victim, *others, *unaware)
    sums = [
        attack.sum(everyone, (*others, *unaware), (victim, *others), least=3),
        attack.sum((*unaware, victim), unaware, least=3, lost=[victim]),
        attack.sum(everyone, (victim, *others), least=3),
    ]
    assert combined(sums, [-1, 1, 1]) == ADDENDS[victim]


def test_with_a_colluder_and_a_training_that_fails_nine_peers_are_enough() -> None:
    """Not defended, as above: two never hear of the first sum, and the one that fails was not in it."""
    colluder, victim, others, unaware, failing = (
        NAMES[0],
        NAMES[1],
        NAMES[2:6],
        NAMES[6:8],
        NAMES[8],
    )
    attack = Attack([colluder])
    everyone = (colluder, victim, *others, *unaware)
    few = (colluder, *unaware, failing)
    sums = [
        attack.sum(everyone, (colluder, *others, *unaware), (victim, *others), least=3),
        attack.sum((*few, victim), few, least=3, failing=[failing], lost=[victim]),
        attack.sum(everyone, (colluder, victim, *others), least=3),
    ]
    found = combined([*sums, ADDENDS[colluder]], [-1, 1, 1, -1])
    assert found is not None
    assert np.array_equal(found.body, ADDENDS[victim].body)
