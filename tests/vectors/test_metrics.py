"""Metrics of known answers, by the code and by the protocol's text once more."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vectors import reference
from vectors.files import Json, bad, good
from vectors.reading import metrics, raw, refuses, reported, tape

GOOD = ("given", "found")
BAD = ("given", "reason")


def encoded(given: Json) -> Any:
    values = reported(given["values"])
    return metrics(given["metrics"]).encode(values, given["examples"], given["cohort"])


@pytest.mark.parametrize(GOOD, good("metrics", "encode"))
def test_what_an_app_reports(given: Json, found: Json) -> None:
    ours = encoded(given)
    assert ours.tobytes().hex() == found["bytes"]
    values, examples = reported(given["values"]), given["examples"]
    if given["metrics"]["open"]:
        plain = reference.open_words(values, examples)
    else:
        asked = {name: values[name] for name, _ in given["metrics"]["named"]}
        plain = reference.metric_words(asked, examples)
    assert reference.joined(([], plain), 16).hex() == found["bytes"]


@pytest.mark.parametrize(BAD, bad("metrics", "encode"))
def test_what_nobody_can_add_up(given: Json, reason: str) -> None:
    refuses(reason, lambda: encoded(given))


@pytest.mark.parametrize(GOOD, good("metrics", "noise"))
def test_noise_in_the_place_of_metrics(given: Json, found: Json) -> None:
    ours = metrics(given["metrics"]).noise(tape(given["entropy"]))
    assert ours.tobytes().hex() == found["bytes"] == given["entropy"]


def decoded(given: Json) -> Any:
    total = np.frombuffer(raw(given["total"]), "<u8")
    return metrics(given["metrics"]).decode(total, given["peers"], given["examples"])


@pytest.mark.parametrize(GOOD, good("metrics", "means"))
def test_means_out_of_a_sum(given: Json, found: Json) -> None:
    means = reported(found["means"])
    assert decoded(given) == means
    _, words = reference.elements(raw(given["total"]), 16, 0)
    named = given["metrics"]["named"]
    if given["metrics"]["open"]:
        named = reference.metric_names(words[128:], given["peers"])
    assert reference.metric_means(named, words, given["examples"]) == means


@pytest.mark.parametrize(BAD, bad("metrics", "means"))
def test_sums_out_of_which_no_names_are_read(given: Json, reason: str) -> None:
    refuses(reason, lambda: decoded(given))
