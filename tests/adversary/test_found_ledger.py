"""Sums over one model, with as many colluding peers as the ticket's guarantee allows: one peer's update.

Each of these attacks works as the code is: where it is mended, turn the assertion round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from smpcfl.protocol.errors import Reason
from smpcfl.protocol.guarantee import withstands
from smpcfl.protocol.ledger import Ledger
from smpcfl.protocol.policy import Policy
from smpcfl.protocol.ring import RingVector
from smpcfl.protocol.ticket import SignedTicket, default_threshold
from support.attacker import Loot, show
from support.network import make_ticket, peer_ids, random_addend, sign
from support.remembering import Remembering

MODEL = bytes([9]) * 32
NAMES = peer_ids(10)
POLICY = Policy(min_cohort=8)  # of a peer that fears two colluders: 3c + 2


def signed(cohort: Sequence[str], serial: int, min_survivors: int = 6) -> SignedTicket:
    """Over one and the same model; six survivors are what the bundled aggregator asks of eight."""
    n, t = len(cohort), default_threshold(len(cohort) - 1)
    ticket = make_ticket(n, serial=serial, model_digest=MODEL).ticket
    ticket = replace(ticket, cohort=tuple(sorted(cohort)), threshold=t, min_survivors=min_survivors)
    assert withstands(ticket) == 2
    return sign(ticket)


ADDENDS = {
    name: random_addend(make_ticket(8).ticket.layout, np.random.default_rng(place))
    for place, name in enumerate(NAMES)
}


def test_two_sets_three_apart_give_one_peer_where_two_of_the_three_collude() -> None:
    cohort = NAMES[:8]
    victim, colluders = cohort[5], cohort[6:]
    ledgers: dict[str, Ledger] = {}
    sums: list[RingVector] = []
    for serial, members in enumerate(((0, 1, 2, 3, 4, 5), (0, 1, 2, 3, 4, 6, 7)), 1):
        for name in colluders:
            ledgers[name] = Ledger()
        net = Remembering(signed(cohort, serial), ledgers=ledgers, policy=POLICY)
        net.addends = {name: ADDENDS[name] for name in cohort}
        net.until("upload")
        loot, refusals = show(net, dict.fromkeys(range(8), members))
        assert not refusals
        total = loot.sum_of(members)
        assert total is not None
        sums.append(total)
    found = sums[0] - sums[1] + ADDENDS[colluders[0]] + ADDENDS[colluders[1]]
    assert found == ADDENDS[victim]


def asked(
    cohort: Sequence[str], members: set[str], askers: set[str], serial: int, **options: object
) -> tuple[Remembering, Loot, list[Reason]]:
    """Only `askers` are shown the survivors; nobody else hears that there are any."""
    ticket = signed(cohort, serial, min_survivors=5)
    net = Remembering(ticket, policy=POLICY, **options)  # type: ignore[arg-type]
    net.addends |= {name: ADDENDS[name] for name in ticket.ticket.cohort if name not in net.failing}
    net.until("upload")
    places = [ticket.ticket.index(name) for name in askers]
    chosen = tuple(sorted(ticket.ticket.index(name) for name in members))
    loot, refusals = show(net, dict.fromkeys(places, chosen))
    return net, loot, refusals


def test_one_set_with_and_without_a_zero_where_only_colluders_answer_twice() -> None:
    """Ledger.answer: no honest peer answers both, so none refuses."""
    colluders, honest = set(NAMES[:2]), NAMES[2:6]
    victim = honest[0]
    members = colluders | set(honest)
    ledgers: dict[str, Ledger] = {}
    sums = []
    for serial, (others, half, failing) in enumerate(
        ((NAMES[6:8], honest[:2], set[str]()), (NAMES[8:], honest[2:], {victim})), 1
    ):
        for name in colluders:
            ledgers[name] = Ledger()
        net, loot, refusals = asked(
            [*members, *others],
            members,
            colluders | set(others) | set(half),
            serial,
            ledgers=ledgers,
            failing=failing,
        )
        assert not refusals
        for name in colluders:
            loot.take_everything_of(net.ticket.index(name))
        chosen = tuple(sorted(net.ticket.index(name) for name in members))
        total = loot.sum_of(chosen)
        assert total is not None
        sums.append(total)
    assert np.array_equal((sums[0] - sums[1]).body, ADDENDS[victim].body)
