"""What a peer remembers of a model: one configuration, two sums far apart, so many tickets an hour."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest

from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.ledger import Cohort, Latest, Ledger, Seen, configuration, set_digest
from smpcfl.protocol.policy import Policy
from smpcfl.protocol.ticket import EVALUATE, HOUR_MS, Ticket, default_threshold
from support.network import make_ticket, peer_ids

BASE = make_ticket(10, min_survivors=3).ticket  # so it withstands one colluder
TWO = replace(BASE, min_survivors=8)  # and this one two
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
    {"weighted_by": "batches"},
    {"arrays": ("head",)},
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
    with pytest.raises(RemoteError, match=r">= 3 apart, found 2 apart"):
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
        (ALL[:6], None),
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


@pytest.mark.parametrize(("second", "refused"), [(ALL[:7], True), (ALL[:6], False)])
def test_where_two_may_collude_two_more_than_these_are_apart(
    second: tuple[int, ...], refused: bool
) -> None:
    ledger = Ledger()
    assert agrees(ledger, ALL, TWO) is None
    assert (agrees(ledger, second, TWO) is Reason.CONFLICTING_SURVIVORS) is refused


def test_an_agreement_names_the_other_set_whatever_the_places_in_a_cohort() -> None:
    ledger = Ledger()
    everyone, seven = frozenset(BASE.cohort), frozenset(BASE.cohort[:7])
    assert ledger.agree(BASE, ALL, POLICY) == b""
    assert ledger.agree(BASE, ALL, POLICY) == b""
    assert ledger.agree(BASE, ALL[:7], POLICY) == set_digest(everyone)
    assert ledger.agree(BASE, ALL, POLICY) == set_digest(seven)
    assert ledger.agree(
        changed(cohort=BASE.cohort[:7], threshold=5), ALL[:7], POLICY
    ) == set_digest(everyone)


@pytest.mark.parametrize(
    ("cohort", "refused"),
    [
        (peer_ids(10), False),
        (peer_ids(9), False),
        (peer_ids(8), True),
        (peer_ids(11), False),
        (peer_ids(13), True),
        (peer_ids(5), True),  # those who agreed before are a minority here
        (peer_ids(13)[3:], True),
        ((*peer_ids(6), *peer_ids(18)[10:]), True),
    ],
)
def test_cohorts_over_one_model_are_so_alike_that_quorums_meet(
    cohort: tuple[str, ...], refused: bool
) -> None:
    threshold = default_threshold(len(cohort) - 1)
    other = changed(cohort=tuple(sorted(cohort)), threshold=threshold, serial=2)
    ledger = Ledger()
    ledger.check(other, POLICY, NOW_MS)
    ledger.accept(TWO, NOW_MS)
    ledger.check(other, POLICY, NOW_MS)  # nobody agreed to anything in that round
    ledger.agree(TWO, ALL, POLICY)
    found = reason_of(lambda: ledger.check(other, POLICY, NOW_MS))
    assert (found is Reason.CONFLICTING_COHORTS) is refused
    ledger.check(replace(other, model_digest=OTHER_MODEL), POLICY, NOW_MS)


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
        BASE.model_digest: Seen(
            (configuration(BASE),), (frozenset(BASE.cohort),), (Cohort.of(BASE),)
        ),
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
    assert not ledger.apart(BASE.model_digest, named(*ALL[:9]), POLICY), (
        "too near to leave some out"
    )


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


# -- evaluations: one a model, of models that are trained on ------------------------------------------------

EVALUATION = changed(task=EVALUATE, body=0)


def model(number: int, base: Ticket = BASE) -> Ticket:
    return replace(base, model_digest=bytes([number]) * 32)


def evaluated(ledger: Ledger, number: int, at_ms: int = NOW_MS) -> Reason | None:
    """A whole evaluation of this model, over all."""
    ticket = model(number, EVALUATION)

    def act() -> None:
        ledger.check(ticket, POLICY, at_ms)
        ledger.accept(ticket, at_ms)
        ledger.agree(ticket, ALL, POLICY)
        ledger.answer(ticket, 0)

    return reason_of(act)


def trained(ledger: Ledger, number: int, survivors: Iterable[int] = ALL) -> Reason | None:
    ticket = model(number)

    def act() -> None:
        ledger.check(ticket, POLICY, NOW_MS)
        ledger.accept(ticket, NOW_MS)
        ledger.agree(ticket, tuple(survivors), POLICY)
        ledger.answer(ticket, 0)

    return reason_of(act)


def test_an_honest_run_evaluates_each_model_before_it_trains_on_it() -> None:
    ledger = Ledger()
    assert trained(ledger, 1) is None
    for number in range(2, 8):
        assert evaluated(ledger, number) is None
        assert trained(ledger, number) is None


def test_a_model_is_evaluated_once() -> None:
    ledger = Ledger()
    assert evaluated(ledger, 1) is None
    assert evaluated(ledger, 1) is Reason.SECOND_EVALUATION
    assert trained(ledger, 1) is None
    assert evaluated(ledger, 1) is Reason.SECOND_EVALUATION


def test_a_model_that_nobody_trains_on_is_the_last_one_evaluated_for_an_hour() -> None:
    """Else a record could be asked for, bit by bit, by the counts on crafted models."""
    ledger = Ledger()
    assert trained(ledger, 1) is None
    assert evaluated(ledger, 2) is None
    assert evaluated(ledger, 3) is Reason.SECOND_EVALUATION
    assert evaluated(ledger, 1) is None  # the one trained on last
    assert evaluated(ledger, 3, NOW_MS + HOUR_MS - 1) is Reason.SECOND_EVALUATION
    assert evaluated(ledger, 3, NOW_MS + HOUR_MS) is None
    assert trained(ledger, 4) is None
    assert evaluated(ledger, 5, NOW_MS + HOUR_MS) is None, "as many as are trained on"
    assert evaluated(ledger, 6, NOW_MS + HOUR_MS) is Reason.SECOND_EVALUATION


@pytest.mark.parametrize(
    ("survivors", "reason"),
    [
        (ALL, None),
        (ALL[1:], Reason.CONFLICTING_SURVIVORS),
        (ALL[2:], Reason.CONFLICTING_SURVIVORS),
        (ALL[3:], None),
        (ALL[4:], None),
    ],
)
def test_an_evaluation_is_over_the_training_before_it(
    survivors: tuple[int, ...], reason: Reason | None
) -> None:
    ledger = Ledger()
    assert trained(ledger, 1) is None
    assert agrees(ledger, survivors, model(2, EVALUATION)) is reason


@pytest.mark.parametrize("survivors", [ALL[1:], ALL[3:]])
def test_an_evaluation_is_over_an_earlier_training_on_this_very_model_too(
    survivors: tuple[int, ...],
) -> None:
    """Else the training's metrics less the evaluation's are one peer's, with another model in between."""
    ledger, close = Ledger(), len(survivors) == 9
    assert trained(ledger, 1) is None
    assert trained(ledger, 2, survivors) is None
    found = agrees(ledger, survivors, model(1, EVALUATION))
    assert (found is Reason.CONFLICTING_SURVIVORS) is close


@pytest.mark.parametrize(
    ("first", "second", "refused"), [(0, 0, False), (0, 1, True), (1, 0, True), (1, 1, True)]
)
def test_an_evaluation_of_a_model_trained_on_is_answered_where_all_took_part_in_both(
    first: int, second: int, refused: bool
) -> None:
    ledger = Ledger()
    ledger.answer(BASE, first)
    found = reason_of(lambda: ledger.answer(EVALUATION, second))
    assert (found is Reason.CONFLICTING_SURVIVORS) is refused


def test_whoever_failed_in_an_evaluation_does_not_keep_the_training_after_it() -> None:
    ledger = Ledger()
    ledger.answer(EVALUATION, 1)
    ledger.answer(BASE, 0)
    ledger.answer(model(2, EVALUATION), 1)


def test_an_evaluation_does_not_bind_the_training_after_it() -> None:
    ledger = Ledger()
    assert evaluated(ledger, 1) is None
    assert trained(ledger, 1, ALL[1:]) is None
    assert trained(ledger, 2) is None


def test_an_evaluation_that_was_void_can_be_asked_for_again() -> None:
    ledger = Ledger()
    ledger.accept(model(2, EVALUATION), NOW_MS)
    assert evaluated(ledger, 2) is None


def test_evaluations_count_as_tickets() -> None:
    ledger, one = Ledger(), replace(POLICY, tickets_per_hour=1)
    ledger.accept(EVALUATION, NOW_MS)
    assert reason_of(lambda: ledger.check(BASE, one, NOW_MS)) is Reason.TOO_MANY_TICKETS


def test_what_evaluations_are_measured_by_is_kept_first() -> None:
    kept: list[Latest] = []
    ledger = Ledger(keep_latest=kept.append)
    assert trained(ledger, 1) is None
    assert kept[-1].trained == bytes([1]) * 32
    assert kept[-1].survivors == frozenset(BASE.cohort)
    assert evaluated(ledger, 2) is None
    assert (kept[-1].awaited, kept[-1].awaited_ms) == (bytes([2]) * 32, NOW_MS)
    again = Ledger(latest=kept[-1])
    assert evaluated(again, 3) is Reason.SECOND_EVALUATION
    assert trained(again, 2) is None
    assert evaluated(again, 3) is None


@pytest.mark.parametrize(("peers", "expected"), [(10, 10), (9, 0), (8, 0), (7, 7), (6, 6)])
def test_who_may_evaluate_follows_from_the_training_before(peers: int, expected: int) -> None:
    ledger = Ledger()
    assert len(ledger.evaluators(BASE.cohort[:peers], POLICY)) == peers
    assert trained(ledger, 1) is None
    found = ledger.evaluators(BASE.cohort[:peers], POLICY)
    assert len(found) == expected
    newcomers = (*BASE.cohort, "peer-x")
    assert ledger.evaluators(newcomers, POLICY) == frozenset(BASE.cohort)
