"""An aggregator that wants a group of its own choice, and peers that go by the draw alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from smpcfl.net import certificates
from smpcfl.protocol import draw as draw_module
from smpcfl.protocol import grouping as grouping_module
from smpcfl.protocol.admission import Admission
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.grouping import Drawn, Grouping, check_group
from smpcfl.protocol.ledger import Ledger
from smpcfl.protocol.policy import Policy
from smpcfl.protocol.ticket import SignedTicket, default_threshold
from smpcfl.registry.draws import SETTLED_S, Draws
from support.attacker import Loot, show
from support.drawn import CA, NOW_S, drawn, fingerprint_of, groups_of, seeded_entropy
from support.enrolled import Deployment, draws_of
from support.network import Round, key_of, make_ticket, peer_ids, sign
from support.remembering import Refusing
from support.unchecked import check, removed

PEERS = peer_ids(20)
VICTIM, COLLUDERS = PEERS[0], frozenset(PEERS[1:5])
CHOSEN = (VICTIM, *sorted(COLLUDERS))
"""All but one of them collude: their sum is the victim's update."""
OTHERS = tuple(peer for peer in PEERS if peer not in CHOSEN)


def spread(draw: int = 7, **changes: Any) -> Drawn:
    """A draw that puts the colluders in different groups."""
    return drawn(groups_of([PEERS[first::4] for first in range(4)], draw, **changes))


def together(draw: int) -> Drawn:
    """One that by chance, or by somebody's choice, does not."""
    return drawn(groups_of([CHOSEN, OTHERS[:5], OTHERS[5:10], OTHERS[10:]], draw))


@dataclass
class Grouped(Refusing):
    """The victim follows a ticket only if `Admission` lets it, as agents do; the colluders follow any."""

    drawn: Drawn = field(default_factory=Drawn)
    needed: bool = True
    keys: dict[str, bytes] = field(default_factory=dict)

    def _round(self, peer: str, **options: float | None) -> Round:
        if peer == VICTIM:
            grouping = Grouping(
                peer, self.drawn, lambda: self.needed, lambda p: self.keys.get(p, fingerprint_of(p))
            )
            Admission(peer, self.policy, self.keyring, Ledger(), grouping).check(
                self.signed, highest_serial=0, running=None, now_ms=int(NOW_S * 1000)
            )
        return super()._round(peer, **options)


def ticket_for(cohort: Sequence[str], **changes: Any) -> SignedTicket:
    threshold = default_threshold(len(cohort) - 1)
    return sign(
        replace(
            make_ticket(5).ticket,
            cohort=tuple(cohort),
            threshold=threshold,
            min_survivors=threshold + 1,
            **changes,
        )
    )


def summed(signed: SignedTicket, **options: Any) -> Loot | Reason:
    """The victim's round with its four colluders, or why it takes no part."""
    network = Grouped(signed, **options).until("start")
    assert isinstance(network, Grouped)
    if VICTIM not in network.rounds:
        (reason,) = network.refusals
        return reason
    for step in (network.exchange, network.ready, network.upload):
        step()
    everyone = tuple(range(5))
    loot, refusals = show(network, dict.fromkeys(everyone, everyone))
    assert not refusals
    for index in everyone[1:]:
        loot.take_everything_of(index)
    return loot


def bares(found: Loot | Reason) -> bool:
    assert isinstance(found, Loot)
    return found.bares([0])


# -- the cohort -----------------------------------------------------------------------------------------


def test_a_cohort_that_is_not_the_group_is_refused() -> None:
    signed = ticket_for(CHOSEN, draw=7, group=1)
    assert summed(signed, drawn=spread()) is Reason.NOT_THE_GROUP
    with removed(check(Grouping, "check", Reason.NOT_THE_GROUP)):
        assert bares(summed(signed, drawn=spread()))


def test_a_cohort_of_an_older_draw_is_refused() -> None:
    # In draw 6 chance put the victim among colluders, and the aggregator would keep to that one.
    signed = ticket_for(CHOSEN, draw=6, group=1)
    known = Drawn(7, (*spread().groups, *together(6).groups))
    assert summed(signed, drawn=known) is Reason.STALE_DRAW
    older = together(6)
    with pytest.raises(RemoteError) as error:
        check_group(older.groups[0], CA, 7, NOW_S)
    assert error.value.reason is Reason.STALE_DRAW
    # A peer that takes an older draw for the newest.
    with removed(check(grouping_module, "check_group", Reason.STALE_DRAW)):
        grouping_module.check_group(older.groups[0], CA, 7, NOW_S)
        assert bares(summed(signed, drawn=older))


def test_a_ticket_without_a_draw_is_refused_where_there_are_groups() -> None:
    signed = ticket_for(CHOSEN)
    assert summed(signed, drawn=spread()) is Reason.NO_DRAW
    # Also by whoever the registry has told of no draw, and by whoever waits for the next one.
    for known in (Drawn(), Drawn(7)):
        assert summed(signed, drawn=known) is Reason.NO_DRAW
    with removed(check(Grouping, "_check_ungrouped", Reason.NO_DRAW)):
        assert bares(summed(signed, drawn=spread()))


def test_a_draw_of_the_aggregators_own_is_no_draw() -> None:
    signed = ticket_for(CHOSEN, draw=8, group=1)
    assert summed(signed, drawn=spread()) is Reason.UNKNOWN_DRAW
    assert bares(summed(signed, drawn=together(8)))  # were it the registry's


def test_a_member_whose_key_was_not_drawn_is_refused() -> None:
    # Somebody with a certificate for an honest peer's id, and another key: the CA's mistake, or its lie.
    other = bytes.fromhex(certificates.fingerprint(key_of("another").public_key()))
    signed, known = ticket_for(CHOSEN, draw=8, group=1), together(8)
    keys = {CHOSEN[3]: other}
    assert summed(signed, drawn=known, keys=keys) is Reason.WRONG_KEY
    with removed(check(Grouping, "check", Reason.WRONG_KEY)):
        assert bares(summed(signed, drawn=known, keys=keys))


# -- the draw -------------------------------------------------------------------------------------------

MANY = peer_ids(200)
TWENTY = frozenset(MANY[:20])
KEYS = {peer: fingerprint_of("any") for peer in MANY}
SIZE = 20


def most_colluders(draws: Draws, colluders: frozenset[str]) -> float:
    """The largest share of colluders in a group."""
    groups = draws.told_all().groups
    return max(
        sum(member.peer in colluders for member in group.members) / len(group.members)
        for group in groups
    )


class AskedForDraws:
    """A registry of 200 peers, a tenth of them colluders, that somebody calls; `living` are there."""

    def __init__(self, folder: Path, living: Sequence[str] = MANY) -> None:
        self.now = 1_700_000_000.0
        deployment = Deployment(folder / "deployment")
        self.living = living
        self.draws = draws_of(
            deployment.authority,
            folder,
            SIZE,
            clock=lambda: self.now,
            entropy=seeded_entropy("ground"),
        )
        self.keep()
        self.now += SETTLED_S
        self.keep()

    def keep(self) -> None:
        self.draws.keep(self.living, lambda: KEYS)

    def best_of(self, calls: int) -> float:
        """What an aggregator gets that asks for the draw until it likes it."""
        best = 0.0
        for _ in range(calls):
            self.keep()
            best = max(best, most_colluders(self.draws, TWENTY))
        return best


def test_a_draw_is_not_to_be_ground(tmp_path: Path) -> None:
    honest = AskedForDraws(tmp_path / "honest")
    first = honest.best_of(1)
    assert honest.best_of(100) == first < 1 / 3
    # A registry that draws whenever it is asked.
    with patch.object(Draws, "_is_due", lambda *_: True):
        assert AskedForDraws(tmp_path / "weak").best_of(100) >= 1 / 3


def test_cutting_honest_peers_off_while_the_registry_draws_gains_little(tmp_path: Path) -> None:
    """Half of the honest ones are not heard of when the draw is made."""
    heard = (*MANY[:20], *MANY[110:])

    def share(draws: Draws) -> float:
        cohort = [m.peer for group in draws.told_all().groups for m in group.members]
        return len(TWENTY & set(cohort)) / len(cohort)

    honest = AskedForDraws(tmp_path / "honest", heard)
    assert share(honest.draws) <= 0.1 / 0.95 + 1e-9
    with patch.object(draw_module, "LEFT_OUT", 1):  # as many as are away
        weak = AskedForDraws(tmp_path / "weak", heard)
    assert share(weak.draws) == pytest.approx(20 / 110)


def test_a_draw_that_leaves_many_out_is_not_gone_by() -> None:
    # Of 40 honest ones the registry drew five: the rest was cut off from it, or left out on purpose.
    known = together(8).groups
    (mine, *_) = (replace(group, roster=40, left_out=20) for group in known)
    with pytest.raises(RemoteError) as error:
        check_group(mine, CA, 7, NOW_S)
    assert error.value.reason is Reason.TOO_MANY_LEFT_OUT
    with removed(check(grouping_module, "check_group", Reason.TOO_MANY_LEFT_OUT)):
        grouping_module.check_group(mine, CA, 7, NOW_S)
        assert bares(summed(ticket_for(CHOSEN, draw=8, group=1), drawn=Drawn(8, (mine,))))


def test_a_sum_over_one_model_is_taken_in_the_groups_of_one_draw() -> None:
    """Two groups that differ by the victim and a colluder: the difference of the sums is the victim's."""
    first, second = (
        ticket_for(PEERS[:5], draw=7, group=1),
        ticket_for(PEERS[1:6], draw=8, group=1),
    )
    member, policy = Ledger(), Policy()
    member.agree(first.ticket, range(5), policy)

    def again() -> None:
        member.check(second.ticket, policy, 0)
        member.agree(second.ticket, range(5), policy)

    with pytest.raises(RemoteError) as error:
        again()
    assert error.value.reason is Reason.SECOND_DRAW
    # Where draws are not compared, what is left are the rules for any two cohorts.
    with removed(check(Ledger, "check", Reason.SECOND_DRAW)):
        with pytest.raises(RemoteError) as error:
            again()
        assert error.value.reason is Reason.CONFLICTING_COHORTS
