"""What a peer remembers of a model: one configuration, two sums far apart, so many tickets an hour."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest

from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.ledger import Ledger, Seen, configuration
from smpcfl.protocol.policy import Policy
from smpcfl.protocol.ticket import HOUR_MS, Ticket
from support.network import make_ticket, peer_ids

BASE = make_ticket(10).ticket
OTHER_MODEL = bytes([1]) * 32
POLICY = Policy()
NOW_MS = 10**12
ALL = tuple(range(10))


def changed(**changes: Any) -> Ticket:
    return replace(BASE, **changes)


def reason_of(act: Callable[[], object]) -> Reason | None:
    try:
        act()
    except RemoteError as error:
        return error.reason
    return None


def agrees(ledger: Ledger, survivors: Iterable[int], ticket: Ticket = BASE) -> Reason | None:
    return reason_of(lambda: ledger.agree(ticket, tuple(survivors), POLICY))


# -- one configuration a model ------------------------------------------------------------------------------

CONFIGURATIONS = [
    {"config_digest": bytes([9]) * 32},
    {"clip": 2.0},
    {"weight_cap": 101},
    {"width": 32},
]


@pytest.mark.parametrize("other", CONFIGURATIONS, ids=str)
def test_a_model_is_trained_under_one_configuration(other: dict[str, Any]) -> None:
    ledger = Ledger()
    ledger.check(BASE, POLICY, NOW_MS)
    ledger.accept(BASE, NOW_MS)
    ledger.check(changed(serial=2, round=2), POLICY, NOW_MS)
    second = changed(serial=3, **other)
    assert configuration(second) != configuration(BASE)
    assert reason_of(lambda: ledger.check(second, POLICY, NOW_MS)) is Reason.SECOND_CONFIGURATION
    ledger.check(replace(second, model_digest=OTHER_MODEL), POLICY, NOW_MS)
    ledger.check(second, replace(POLICY, max_configurations=2), NOW_MS)


def test_refusals_say_which_one_it_would_have_been() -> None:
    ledger = Ledger(tickets=[NOW_MS], models={BASE.model_digest: Seen((bytes(32),))})
    with pytest.raises(RemoteError, match="expected <= 1 an hour, found 2"):
        ledger.check(BASE, replace(POLICY, tickets_per_hour=1), NOW_MS)
    with pytest.raises(RemoteError, match="expected <= 1 a model, found 2"):
        ledger.check(BASE, POLICY, NOW_MS)
    agrees(ledger, ALL)
    with pytest.raises(RemoteError, match=r">= 3 apart, .*, found 2 apart, 8 in common"):
        ledger.agree(BASE, ALL[:8], POLICY)
    agrees(ledger, ALL[:7])
    with pytest.raises(RemoteError, match="expected <= 2, found 3"):
        ledger.agree(BASE, ALL[3:], POLICY)


def test_a_ticket_that_was_only_looked_at_leaves_nothing_behind() -> None:
    ledger = Ledger()
    ledger.check(BASE, POLICY, NOW_MS)
    ledger.check(changed(clip=2.0), POLICY, NOW_MS)


def test_rounds_cohorts_and_deadlines_are_no_configuration() -> None:
    assert configuration(changed(round=7, nonce=bytes(32), cohort=peer_ids(11))) == (
        configuration(BASE)
    )


# -- survivor sets over one model ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("second", "refused"),
    [
        (ALL, None),  # the same again
        (ALL[:9], Reason.CONFLICTING_SURVIVORS),
        (ALL[:8], Reason.CONFLICTING_SURVIVORS),
        (ALL[:7], None),
        (ALL[:6], Reason.CONFLICTING_SURVIVORS),  # too little in common
    ],
)
def test_a_second_set_is_the_same_or_three_peers_apart(
    second: tuple[int, ...], refused: Reason | None
) -> None:
    ledger = Ledger()
    assert agrees(ledger, ALL) is None
    assert agrees(ledger, second) is refused
    # A subtraction works both ways.
    ledger = Ledger()
    assert agrees(ledger, second) is None
    assert agrees(ledger, ALL) is refused


def test_peers_that_come_count_as_those_that_go() -> None:
    ledger = Ledger()
    assert agrees(ledger, range(8)) is None
    assert agrees(ledger, range(1, 9)) is Reason.CONFLICTING_SURVIVORS  # two apart
    assert agrees(ledger, (*range(1, 8), 8, 9)) is None


def test_a_third_set_is_refused_however_far_away_and_the_two_stay() -> None:
    ledger = Ledger()
    assert agrees(ledger, ALL) is None
    assert agrees(ledger, ALL[:7]) is None
    assert agrees(ledger, ALL[3:]) is Reason.CONFLICTING_SURVIVORS
    assert agrees(ledger, ALL) is None
    assert agrees(ledger, ALL[:7]) is None


def test_a_file_with_more_sets_than_are_kept_now_lets_no_further_one_pass() -> None:
    sets = tuple(frozenset(BASE.cohort[:count]) for count in (1, 2, 3))
    ledger = Ledger({BASE.model_digest: Seen(sets=sets)})
    with pytest.raises(RemoteError, match="expected <= 2, found 4"):
        ledger.agree(BASE, ALL, POLICY)


def test_it_is_peers_that_are_compared_not_their_places_in_a_cohort() -> None:
    ledger, cohort = Ledger(), peer_ids(11)[1:]
    assert agrees(ledger, ALL) is None
    moved = changed(cohort=cohort)
    assert agrees(ledger, ALL, moved) is Reason.CONFLICTING_SURVIVORS  # one went, and one came
    assert agrees(ledger, ALL, replace(moved, model_digest=OTHER_MODEL)) is None


def test_a_set_that_is_refused_is_not_kept() -> None:
    ledger = Ledger()
    assert agrees(ledger, ALL) is None
    for _ in range(3):
        assert agrees(ledger, ALL[:9]) is Reason.CONFLICTING_SURVIVORS
    assert agrees(ledger, ALL[:7]) is None


def test_configurations_and_sets_of_one_model_are_kept_together() -> None:
    kept: dict[bytes, Seen] = {}
    ledger = Ledger(keep_model=kept.__setitem__)
    ledger.accept(BASE, NOW_MS)
    agrees(ledger, ALL)
    ledger.accept(changed(serial=2), NOW_MS)
    assert kept == {
        BASE.model_digest: Seen((configuration(BASE),), (frozenset(BASE.cohort),)),
    }
    again = Ledger(kept)
    assert agrees(again, ALL[:9]) is Reason.CONFLICTING_SURVIVORS
    assert reason_of(lambda: again.check(changed(clip=2.0), POLICY, NOW_MS)) is (
        Reason.SECOND_CONFIGURATION
    )


def test_what_cannot_be_written_has_not_happened() -> None:
    def full(model: bytes, seen: Seen) -> None:
        raise OSError("no space left")

    ledger = Ledger(keep_model=full)
    with pytest.raises(OSError, match="no space"):
        ledger.agree(BASE, ALL, POLICY)
    ledger._keep_model = lambda model, seen: None
    assert agrees(ledger, ALL[:9]) is None


# -- which peers may be a set --------------------------------------------------------------------------------


def named(*indices: int) -> frozenset[str]:
    return frozenset(BASE.cohort[index] for index in indices)


def test_without_an_earlier_set_all_take_part() -> None:
    assert Ledger().apart(BASE.model_digest, BASE.cohort, POLICY) == named(*ALL)


@pytest.mark.parametrize("there", [ALL, ALL[:9], ALL[:8], ALL[:7], ALL[3:], (0, 1, 2), ALL[1:9]])
@pytest.mark.parametrize("earlier", [[], [ALL], [ALL[:8]], [ALL, ALL[:7]], [ALL[:8], ALL[2:]]])
def test_whom_it_lets_take_part_the_peers_agree_to(
    earlier: list[tuple[int, ...]], there: tuple[int, ...]
) -> None:
    ledger = Ledger()
    for members in earlier:
        assert agrees(ledger, members) is None
    found = ledger.apart(BASE.model_digest, named(*there), POLICY)
    assert found <= named(*there)
    if found:
        assert agrees(ledger, [BASE.cohort.index(peer) for peer in found]) is None


def test_the_same_set_again_is_preferred_to_leaving_peers_out() -> None:
    ledger = Ledger()
    agrees(ledger, ALL[:9])
    assert ledger.apart(BASE.model_digest, BASE.cohort, POLICY) == named(*ALL[:9])
    ledger = Ledger()
    agrees(ledger, ALL)
    assert ledger.apart(BASE.model_digest, named(*ALL[:9]), POLICY) == named(*ALL[2:9])
    assert not ledger.apart(BASE.model_digest, named(*ALL[:6]), POLICY)


# -- sums over one model in which training failed on somebody ------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "refused"), [(0, 0, False), (0, 1, True), (1, 0, True), (1, 1, True)]
)
def test_a_second_sum_is_answered_only_where_all_had_trained(
    first: int, second: int, refused: bool
) -> None:
    ledger = Ledger()
    ledger.answer(BASE, first)
    found = reason_of(lambda: ledger.answer(changed(serial=2), second))
    assert (found is Reason.CONFLICTING_SURVIVORS) is refused
    ledger.answer(replace(BASE, model_digest=OTHER_MODEL), second)


# -- tickets an hour -----------------------------------------------------------------------------------------


def test_so_many_tickets_an_hour_and_no_more() -> None:
    policy, ledger = replace(POLICY, tickets_per_hour=3), Ledger()
    for minute in (0, 10, 20):
        at = NOW_MS + minute * 60_000
        ledger.check(BASE, policy, at)
        ledger.accept(BASE, at)
    with pytest.raises(RemoteError) as error:
        ledger.check(BASE, policy, NOW_MS + 30 * 60_000)
    assert error.value.reason is Reason.TOO_MANY_TICKETS
    assert "again in 1801 s" in str(error.value)  # when the first is an hour old
    ledger.check(BASE, policy, NOW_MS + HOUR_MS)
    ledger.accept(BASE, NOW_MS + HOUR_MS)
    with pytest.raises(RemoteError):
        ledger.check(BASE, policy, NOW_MS + HOUR_MS)


def test_tickets_of_an_earlier_process_count() -> None:
    policy = replace(POLICY, tickets_per_hour=2)
    ledger = Ledger(tickets=[NOW_MS - HOUR_MS - 1, NOW_MS - 5, NOW_MS - 4])
    assert reason_of(lambda: ledger.check(BASE, policy, NOW_MS)) is Reason.TOO_MANY_TICKETS
