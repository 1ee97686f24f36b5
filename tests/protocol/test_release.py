"""When an upload leaves: in steps that no aggregator can move, and that tell little of the training."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smpcfl.protocol.release import DAY_MS, DECAY, FIRST_MS, Floor, last_step_ms, release_ms
from smpcfl.protocol.ticket import Deadlines

LIMIT_MS = 90_510  # as the default deadlines have it
NOW_MS = 10**12
times = st.integers(0, DAY_MS)


@given(times, times)
def test_it_leaves_at_the_first_step_that_is_not_before_either_time(one: int, other: int) -> None:
    steps = [round(FIRST_MS * 2 ** (number / 2)) for number in range(40)]
    found = release_ms(one, other)
    assert found in steps
    assert found >= max(one, other)
    assert not any(max(one, other) <= step < found for step in steps)
    assert found == release_ms(other, one)


@given(times.filter(lambda ms: ms > FIRST_MS))
def test_waiting_adds_less_than_half_to_a_training(training_ms: int) -> None:
    assert release_ms(training_ms) <= math.ceil(training_ms * math.sqrt(2)) + 1


def test_trainings_of_a_day_are_told_apart_by_few_steps() -> None:
    assert len({release_ms(ms) for ms in range(0, DAY_MS, 997)}) <= 32


def test_a_training_at_a_step_does_not_wait_for_the_next() -> None:
    assert [release_ms(ms) for ms in (0, 2000, 2001, 2828, 2829, 4000)] == [
        *(2000, 2000, 2828, 2828, 4000, 4000)
    ]


def test_one_that_fails_at_once_leaves_when_the_last_one_would() -> None:
    assert release_ms(1, 60_000) == release_ms(60_000) == release_ms(59_000)


# -- the floor ----------------------------------------------------------------------------------------------


def test_the_floor_follows_from_when_uploads_left_alone() -> None:
    """Two peers whose uploads leave at the same times have the same floor, whoever of them failed."""
    floor = Floor()
    floor.left(8_000, LIMIT_MS, NOW_MS)
    assert floor.ms == 8_000
    floor.left(2_000, LIMIT_MS, NOW_MS)
    assert floor.ms == 8_000
    floor.left(16_000, LIMIT_MS, NOW_MS)
    assert floor.ms == 16_000


def test_an_upload_that_left_at_the_last_step_counts_like_any_other() -> None:
    """Else a time to train below the floor would keep it down for good."""
    floor = Floor(4_000)
    floor.left(LIMIT_MS, LIMIT_MS, NOW_MS)
    assert floor.ms == LIMIT_MS


@pytest.mark.parametrize(
    ("limit_ms", "expected"),
    [(0, 0), (1_999, 0), (2_000, 2_000), (2_827, 2_000), (10_500, 8_000), (100_000, 90_510)],
)
def test_a_deadline_between_two_steps_is_the_earlier_one(limit_ms: int, expected: int) -> None:
    assert last_step_ms(limit_ms) == expected
    assert (
        Deadlines(1, 2, 2 + max(limit_ms, 1), 10**7, 10**7 + 1, 10**7 + 2).training_ms == expected
    )


def test_the_floor_comes_down_by_a_step_after_many_that_left_no_later_and_a_day() -> None:
    floor = Floor()
    floor.left(8_000, LIMIT_MS, NOW_MS)
    for _ in range(DECAY - 1):
        floor.left(8_000, LIMIT_MS, NOW_MS + DAY_MS)
        assert floor.ms == 8_000
    floor.left(8_000, LIMIT_MS, NOW_MS + DAY_MS)
    assert release_ms(0, floor.ms) == 5_657
    floor.left(8_000, LIMIT_MS, NOW_MS + DAY_MS)
    assert floor.ms == 8_000, "it takes as long as before"


def test_each_step_down_takes_as_many_and_a_day_of_its_own() -> None:
    floor, found = Floor(8_000, moved_ms=NOW_MS), []
    for hour in range(1, 4 * 24 + 1):
        floor.left(2_000, LIMIT_MS, NOW_MS + hour * DAY_MS // 24)
        found.append(floor.ms)
    assert found[23::24] == [5_657, 4_000, 2_828, 2_000]
    assert found[22::24] == [8_000, 5_657, 4_000, 2_828]


def test_within_a_day_no_number_of_uploads_brings_it_down() -> None:
    floor = Floor()
    for minute in range(24 * 60):
        floor.left(8_000, LIMIT_MS, NOW_MS + minute * 60_000)
    assert floor.ms == 8_000
    floor.left(8_000, LIMIT_MS, NOW_MS + DAY_MS)
    assert floor.ms == 5_657


def test_an_upload_that_had_to_leave_before_the_floor_counts_for_nothing() -> None:
    """A ticket with little time to train shows nothing of how long a training takes."""
    floor = Floor()
    floor.left(8_000, LIMIT_MS, NOW_MS)
    for _ in range(2 * DECAY):
        floor.left(2_000, 2_000, NOW_MS + 2 * DAY_MS)
    assert (floor.ms, floor.since) == (8_000, 0)
    for _ in range(DECAY):
        floor.left(8_000, 8_000, NOW_MS + 2 * DAY_MS)
    assert floor.ms == 5_657, "nor does it stay at the last step for good"


def test_a_clock_that_was_ahead_holds_it_up_for_a_day_at_most() -> None:
    floor = Floor()
    floor.left(8_000, LIMIT_MS, NOW_MS + 400 * DAY_MS)
    for _ in range(DECAY):
        floor.left(8_000, LIMIT_MS, NOW_MS)
    assert floor.ms == 8_000
    floor.left(8_000, LIMIT_MS, NOW_MS + DAY_MS)
    assert floor.ms == 5_657
