"""Who fails to enrol too often waits."""

from __future__ import annotations

from smpcfl.registry.failed_enrolments import _HOSTS, FAILURES, WINDOW_S, FailedEnrolments


def test_a_host_that_failed_too_often_waits_for_the_window_and_others_do_not() -> None:
    failed = FailedEnrolments()
    for at in range(FAILURES):
        assert failed.wait_s("a", at) == 0.0
        failed.add("a", at)
    assert failed.wait_s("a", FAILURES) == WINDOW_S - FAILURES
    assert failed.wait_s("b", FAILURES) == 0.0
    assert failed.wait_s("a", WINDOW_S) == 0.0  # the first failure is forgotten


def test_it_remembers_a_bounded_number_of_hosts() -> None:
    failed = FailedEnrolments()
    for host in range(_HOSTS + 100):
        failed.add(str(host), 0.0)
    assert len(failed._failures) == _HOSTS
