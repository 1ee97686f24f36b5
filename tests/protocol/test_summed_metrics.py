"""Metrics in the sum: plain Flower's weighted means, everybody's or nobody's."""

from __future__ import annotations

import os

import numpy as np
import pytest
from flwr.app import MetricRecord, RecordDict
from flwr.serverapp.strategy.strategy_utils import aggregate_metricrecords
from hypothesis import given, settings
from hypothesis import strategies as st

from smpcfl.protocol.errors import LocalError, Reason, RemoteError
from smpcfl.protocol.summed_metrics import MOST_NAME, MOST_NUMBERS, MetricNames, Values

OPEN = MetricNames(open=True)
NUMBERS = st.floats(-1e6, 1e6)
RECORDS = st.lists(
    st.tuples(
        st.integers(1, 10**6),
        st.fixed_dictionaries(
            {"loss": NUMBERS, "recall": st.lists(NUMBERS, min_size=3, max_size=3)}
        ),
    ),
    min_size=3,
    max_size=9,
)


def summed(metrics: MetricNames, peers: list[tuple[int, Values]]) -> dict[str, float | list[float]]:
    total = np.zeros(metrics.words, np.uint64)
    for examples, values in peers:
        total += metrics.encode(values, examples, len(peers))
    return metrics.decode(total, len(peers), sum(examples for examples, _ in peers))


@settings(max_examples=200, deadline=None)
@given(RECORDS, st.booleans())
def test_the_sum_is_plain_flowers_weighted_mean(
    peers: list[tuple[int, Values]], known: bool
) -> None:
    found = summed(MetricNames.of(peers[0][1]) if known else OPEN, peers)
    plain = aggregate_metricrecords(
        [
            RecordDict({"m": MetricRecord({"num-examples": count, **values})})
            for count, values in peers
        ],
        "num-examples",
    )
    assert found.keys() == plain.keys()
    for name, value in found.items():
        np.testing.assert_allclose(value, plain[name], rtol=1e-9, atol=1e-5)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [2.0**-40, -(2.0**-40), 1.0, -0.5, 3e9, -3e9, 1e-3])
@pytest.mark.parametrize("cohort", [3, 1024])
def test_a_number_arrives_to_the_unit(value: float, cohort: int) -> None:
    peers: list[tuple[int, Values]] = [(1, {"loss": value})] * cohort
    assert summed(MetricNames((("loss", 0),)), peers)["loss"] == pytest.approx(value, abs=2.0**-41)


def test_the_largest_numbers_do_not_wrap() -> None:
    known, n = MetricNames((("loss", 0),)), 1024
    largest = float((2**63 - 1) // n - 1) * 2.0**8
    known.encode({"loss": largest}, 1, n)
    for sign in (1, -1):
        peers: list[tuple[int, Values]] = [(1, {"loss": sign * largest})] * n
        assert summed(known, peers)["loss"] == sign * largest
        with pytest.raises(LocalError, match=r"'loss' is .*, over 1 examples: too large"):
            known.encode({"loss": sign * largest * 1.01}, 1, n)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), [0.5, float("nan")]])
def test_what_is_no_number_is_named(bad: float | list[float]) -> None:
    length = len(bad) if isinstance(bad, list) else 0
    for metrics in (OPEN, MetricNames((("f1", length),))):
        with pytest.raises(LocalError, match=r"metric 'f1' is (nan|inf)"):
            metrics.encode({"f1": bad}, 10, 5)


def test_what_is_missing_or_of_another_length_is_named() -> None:
    known = MetricNames((("f1", 0), ("recall", 2)))
    with pytest.raises(LocalError, match="'recall' is missing"):
        known.encode({"f1": 0.5}, 10, 5)
    with pytest.raises(LocalError, match="'recall' has another length than the ticket's 2"):
        known.encode({"f1": 0.5, "recall": [0.1, 0.2, 0.3]}, 10, 5)
    with pytest.raises(LocalError, match="'recall' has another length"):
        known.encode({"f1": 0.5, "recall": 0.1}, 10, 5)


def test_a_name_that_was_not_agreed_on_stays_at_home() -> None:
    known = MetricNames((("f1", 0),))
    with_more = known.encode({"f1": 0.5, "secret": 7.0}, 10, 5)
    assert with_more.tolist() == known.encode({"f1": 0.5}, 10, 5).tolist()


def test_peers_whose_names_differ_have_none() -> None:
    """Even where the texts' mean happens to be a text."""
    for others in ({"c": 1.0}, {"a": 1.0, "b": 2.0}, {"a": [1.0]}):
        with pytest.raises(LocalError, match="different names"):
            summed(OPEN, [(1, {"a": 1.0}), (1, others), (1, {"a": 1.0})])
    with pytest.raises(LocalError, match="different names"):
        summed(OPEN, [(1, {"a": 1.0}), (1, {"c": 1.0})])


@pytest.mark.parametrize("metrics", [OPEN, MetricNames((("loss", 0), ("recall", 5)))])
def test_one_peer_s_noise_covers_all(metrics: MetricNames) -> None:
    """Every bit of the sum is that of noise: nothing of the others is left to read."""
    values: Values = {"loss": 0.25, "recall": [0.5] * 5}
    counts = np.zeros(64)
    for _ in range(400):
        total = metrics.noise(os.urandom)
        total += metrics.encode(values, 10, 5)
        counts += np.unpackbits(total.view(np.uint8)).reshape(-1, 64).mean(axis=0)
    assert np.all(np.abs(counts / 400 - 0.5) < 6 * 0.5 / np.sqrt(400 * metrics.words))


@pytest.mark.parametrize(
    "named",
    [
        (("b", 0), ("a", 0)),
        (("a", 0), ("a", 0)),
        (("", 0),),
        (("n" * (MOST_NAME + 1), 0),),
        (("a", MOST_NUMBERS + 1),),
        (("a", MOST_NUMBERS), ("b", 0)),
        (("a", -1),),
    ],
)
def test_no_peer_follows_a_list_out_of_range(named: tuple[tuple[str, int], ...]) -> None:
    with pytest.raises(RemoteError) as error:
        MetricNames(named)
    assert error.value.reason is Reason.MALFORMED


def test_a_name_and_a_list_may_be_as_long_as_the_limits_say() -> None:
    assert MetricNames((("n" * MOST_NAME, MOST_NUMBERS),)).numbers == MOST_NUMBERS


def test_open_and_named_at_once_is_malformed() -> None:
    with pytest.raises(RemoteError):
        MetricNames((("a", 0),), open=True)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({f"m{i:02}": 0.0 for i in range(65)}, "at most 64 numbers"),
        ({"a": []}, "'a' is an empty list"),
        ({"n" * 65: 1.0}, "1 to 64 characters"),
        ({f"{i:02}{'n' * 60}": 0.0 for i in range(20)}, "names of the metrics take"),
    ],
)
def test_an_app_that_reports_too_much_reports_nothing(values: Values, match: str) -> None:
    with pytest.raises(LocalError, match=match):
        OPEN.encode(values, 10, 5)


def test_nothing_to_report_takes_no_room() -> None:
    assert MetricNames().words == 0
    assert MetricNames().encode({}, 10, 5).size == 0
    assert MetricNames().decode(np.zeros(0, np.uint64), 5, 50) == {}
