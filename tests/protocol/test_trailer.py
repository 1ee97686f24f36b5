"""The trailer: counters that cannot wrap around, and sums that must make sense."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smpcfl.protocol.errors import LocalError, Reason, RemoteError
from smpcfl.protocol.trailer import LENGTH, Trailer, decode, encode

GOOD = Trailer(
    peers=3,
    contributors=3,
    reporters=2,
    weight=30,
    examples=40,
    clipped=1,
    roomy=2,
    capped=0,
)
COUNTERS = list(Trailer.__dataclass_fields__)


def test_round_trip() -> None:
    assert decode(encode(GOOD, 3), 3) == GOOD
    assert len(encode(GOOD, 3)) == LENGTH


@pytest.mark.parametrize("name", COUNTERS)
@pytest.mark.parametrize("cohort", [3, 4, 1000])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_bound_is_exact_for_every_counter(name: str, cohort: int, sign: int) -> None:
    bound = (2**63 - 1) // cohort
    encode(replace(GOOD, **{name: sign * bound}), cohort)
    with pytest.raises(LocalError, match=name):
        encode(replace(GOOD, **{name: sign * (bound + 1)}), cohort)


@given(st.integers(3, 10_000))
def test_a_cohort_at_the_bound_does_not_wrap(cohort: int) -> None:
    examples = (2**63 - 1) // cohort
    one = replace(GOOD, peers=1, contributors=1, reporters=1, roomy=1, examples=examples)
    total = decode(encode(one, cohort) * np.uint64(cohort), cohort)
    assert total.examples == examples * cohort


@pytest.mark.parametrize("survivors", [1, 2, 4])
def test_another_number_of_peers_is_refused(survivors: int) -> None:
    with pytest.raises(RemoteError) as error:
        decode(encode(GOOD, 3), survivors)
    assert error.value.reason is Reason.BAD_TRAILER
    assert (error.value.expected, error.value.found) == (survivors, 3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"contributors": -1},
        {"contributors": 4},
        {"contributors": 1},  # and two were roomy
        {"clipped": 4},
        {"clipped": -1},
        {"roomy": 4},
        {"roomy": -1},
        {"capped": 4},
        {"capped": -1},
        {"weight": 0},
        {"weight": -1},
        {"weight": 41},
        {"examples": 29},
        {"reporters": 4},
        {"reporters": -1},
        pytest.param(
            {"weight": 2},
        ),
    ],
)
def test_counters_that_contradict_each_other_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(RemoteError) as error:
        decode(encode(replace(GOOD, **wrong), 3), 3)
    assert error.value.reason is Reason.BAD_TRAILER


def test_of_those_that_failed_nothing_but_the_number_is_summed() -> None:
    total = replace(GOOD, peers=5)
    assert decode(encode(total, 5), 5) == total
    assert decode(encode(Trailer(peers=1), 5) + encode(GOOD, 5), 4) == replace(GOOD, peers=4)


@pytest.mark.parametrize("peers", [1, 3])
def test_a_sum_of_failures_alone_is_none(peers: int) -> None:
    with pytest.raises(RemoteError) as error:
        decode(encode(Trailer(peers=peers), peers), peers)
    assert error.value.reason is Reason.TOO_FEW_CONTRIBUTORS


def test_random_garbage_is_refused() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        with pytest.raises(RemoteError):
            decode(rng.integers(0, 2**64 - 1, LENGTH, np.uint64), 5)
