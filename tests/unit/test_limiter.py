"""Who fails to enrol too often waits."""

from __future__ import annotations

from smpcfl.registry.failed_enrolments import _HOSTS, FAILURES, WINDOW_S, Limiter


def test_a_host_that_failed_too_often_waits_for_the_window_and_others_do_not() -> None:
    limiter = Limiter()
    for at in range(FAILURES):
        assert limiter.wait_s("a", at) == 0.0
        limiter.failed("a", at)
    assert limiter.wait_s("a", FAILURES) == WINDOW_S - FAILURES
    assert limiter.wait_s("b", FAILURES) == 0.0
    assert limiter.wait_s("a", WINDOW_S) == 0.0  # the first failure is forgotten


def test_it_remembers_a_bounded_number_of_hosts() -> None:
    limiter = Limiter()
    for host in range(_HOSTS + 100):
        limiter.failed(str(host), 0.0)
    assert len(limiter._failures) == _HOSTS
