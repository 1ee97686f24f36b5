"""When a call is due again."""

from __future__ import annotations

from smpcfl.protocol.retry import FIRST_S, LONGEST_S, Retries


def test_a_call_in_flight_is_not_made_twice() -> None:
    retries = Retries()
    assert retries.start("a", 0.0)
    assert not retries.start("a", 100.0)
    assert retries.start("b", 0.0)


def test_waits_double_up_to_the_longest() -> None:
    retries, now, waits = Retries(), 0.0, []
    for _ in range(7):
        assert retries.start("a", now)
        retries.failed("a", now)
        due = retries.next_due(now)
        assert due is not None
        assert not retries.start("a", due - 1e-9)
        waits.append(due - now)
        now = due
    assert waits == [0.25, 0.5, 1.0, 2.0, 3.0, 3.0, 3.0]
    assert (waits[0], waits[-1]) == (FIRST_S, LONGEST_S)


def test_success_starts_the_waits_over() -> None:
    retries = Retries()
    for _ in range(3):
        retries.failed("a", 0.0)
    retries.succeeded("a")
    assert retries.next_due(0.0) is None
    assert retries.start("a", 0.0)
    retries.failed("a", 0.0)
    assert retries.next_due(0.0) == FIRST_S


def test_a_deferred_call_waits_but_one_that_failed_keeps_its_own_time() -> None:
    retries = Retries()
    retries.defer("a", 2.0)
    assert not retries.start("a", 1.9)
    retries.failed("b", 0.0)
    retries.defer("b", 9.0)
    assert retries.start("b", FIRST_S)
    assert retries.next_due(0.0) == 2.0
