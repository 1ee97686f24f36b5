"""What a peer goes by where its deployment is cut into groups: one draw, one group, and that one whole."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from smpcfl.protocol.draw import LIFE_S
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.grouping import Drawn, Grouping, check_group
from smpcfl.protocol.ledger import Ledger
from smpcfl.protocol.policy import Policy
from smpcfl.protocol.ticket import HOUR_MS, Ticket
from support.drawn import CA, ISSUED, NOW_S, drawn, fingerprint_of, groups_of
from support.network import make_ticket, peer_ids

PEERS = peer_ids(10)
GROUPS = groups_of([PEERS[:5], PEERS[5:]])
ME = PEERS[2]
TICKET = replace(make_ticket(5).ticket, draw=7, group=1)
UNGROUPED = make_ticket(10).ticket


def grouping(**changes: Any) -> Grouping:
    known: dict[str, Any] = {"drawn": drawn(GROUPS), "fingerprint_of": fingerprint_of, **changes}
    return Grouping(ME, **known)


def refused(ticket: Ticket, now_s: float = NOW_S, **changes: Any) -> Reason | None:
    try:
        grouping(**changes).check(ticket, now_s)
    except RemoteError as error:
        return error.reason
    return None


def test_a_ticket_of_its_own_group_is_followed() -> None:
    assert refused(TICKET) is None


@pytest.mark.parametrize(
    "change",
    [
        {"group": 2},
        {"cohort": PEERS[5:]},
        {"group": 2, "cohort": PEERS[5:]},
        {"cohort": (*PEERS[:4], PEERS[5])},
        {"cohort": PEERS[:4], "threshold": 3, "min_survivors": 3},
        {"cohort": PEERS[:6]},
    ],
)
def test_a_cohort_is_the_group_and_nobody_more_or_less(change: dict[str, Any]) -> None:
    assert refused(replace(TICKET, **change)) is Reason.NOT_THE_GROUP


def test_only_the_newest_draw_counts() -> None:
    assert refused(replace(TICKET, draw=6)) is Reason.STALE_DRAW
    assert refused(replace(TICKET, draw=8)) is Reason.UNKNOWN_DRAW
    # The registry told of a draw in which this peer has no group: it came later.
    assert refused(TICKET, drawn=Drawn(7, (GROUPS[1],))) is Reason.UNKNOWN_DRAW
    assert refused(TICKET, drawn=Drawn(8)) is Reason.STALE_DRAW
    assert refused(TICKET, drawn=Drawn()) is Reason.UNKNOWN_DRAW


def test_after_a_day_a_draw_is_over() -> None:
    assert refused(TICKET, ISSUED + LIFE_S - 1) is None
    assert refused(TICKET, ISSUED + LIFE_S) is Reason.EXPIRED_DRAW


@pytest.mark.parametrize("other", [ME, PEERS[4]])
def test_a_member_with_another_key_than_in_the_draw_is_named(other: str) -> None:
    def known(peer: str) -> bytes | None:
        return bytes(32) if peer == other else fingerprint_of(peer)

    with pytest.raises(RemoteError, match=other) as error:
        grouping(fingerprint_of=known).check(TICKET, NOW_S)
    assert error.value.reason is Reason.WRONG_KEY


def test_members_that_it_does_not_know_are_lost_neighbours() -> None:
    assert refused(TICKET, fingerprint_of=lambda peer: None) is None


@pytest.mark.parametrize(
    ("known", "needed", "now_s", "reason"),
    [
        (Drawn(), False, NOW_S, None),
        (Drawn(), True, NOW_S, Reason.NO_DRAW),
        (Drawn(7), True, NOW_S, Reason.NO_DRAW),  # it came after the draw, and waits
        # Whoever has a group has it for as long as the draw is good, however few are left on the roster.
        (drawn(GROUPS), False, NOW_S, Reason.NO_DRAW),
        (drawn(GROUPS), False, ISSUED + LIFE_S, None),
        (drawn(GROUPS), True, ISSUED + LIFE_S, Reason.NO_DRAW),
    ],
)
def test_without_a_draw_a_ticket_is_for_a_small_deployment(
    known: Drawn, needed: bool, now_s: float, reason: Reason | None
) -> None:
    assert refused(UNGROUPED, now_s, drawn=known, needed=lambda: needed) is reason


@pytest.mark.parametrize(
    ("change", "known", "reason"),
    [
        ({}, {}, None),
        ({}, {"newest": 7}, None),
        ({"ca": bytes(32)}, {}, Reason.BAD_SIGNATURE),
        ({}, {"newest": 8}, Reason.STALE_DRAW),
        ({}, {"now_s": ISSUED + LIFE_S}, Reason.EXPIRED_DRAW),
        ({"roster": 11, "left_out": 1}, {}, Reason.TOO_MANY_LEFT_OUT),
    ],
)
def test_which_draw_a_peer_goes_by(
    change: dict[str, Any], known: dict[str, Any], reason: Reason | None
) -> None:
    (group, _) = groups_of([PEERS[:5], PEERS[5:]], **change)
    arguments: dict[str, Any] = {"ca": CA, "newest": 0, "now_s": NOW_S, **known}
    if reason is None:
        check_group(group, **arguments)
        return
    with pytest.raises(RemoteError) as error:
        check_group(group, **arguments)
    assert error.value.reason is reason


def test_one_in_twenty_may_be_left_out() -> None:
    cohorts = [peer_ids(20)[:10], peer_ids(20)[10:19]]
    check_group(groups_of(cohorts, roster=20, left_out=1)[0], CA, 0, NOW_S)


# -- one model, one draw --------------------------------------------------------------------------------

LATER = replace(TICKET, draw=8, group=1, serial=2)


def test_a_model_that_was_agreed_on_in_one_draw_is_summed_in_no_other() -> None:
    ledger, policy = Ledger(), Policy()
    ledger.accept(TICKET, HOUR_MS)
    ledger.check(LATER, policy, HOUR_MS)  # nobody agreed to anything: the round binds nobody
    ledger.agree(TICKET, range(5), policy)
    ledger.check(replace(TICKET, serial=2), policy, HOUR_MS)
    for other in (LATER, replace(LATER, draw=0, group=0)):
        with pytest.raises(RemoteError) as error:
            ledger.check(other, policy, HOUR_MS)
        assert error.value.reason is Reason.SECOND_DRAW
    ledger.check(replace(LATER, model_digest=bytes([1]) * 32), policy, HOUR_MS)
