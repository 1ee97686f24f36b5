"""A round that every peer refuses for one limit of its own ends the run: so would every other round be."""

from __future__ import annotations

import pytest

from smpcfl.flower.server.secure_round import Outcome, SecureRound
from smpcfl.protocol.errors import LocalError

COHORT = "cohort too small; expected >= 5, found 3"


def void(refusals: list[str], cohort: int = 3) -> Outcome:
    round_ = object.__new__(SecureRound)
    round_._refusals = dict(zip("abc", refusals, strict=False))
    round_.outcome = Outcome(cohort=cohort)
    return round_.void("too_few_survivors")


def test_all_of_them_for_one_limit() -> None:
    texts = [f"policy_cohort: {COHORT}"] * 2 + ["policy_cohort: cohort too small; expected >= 9"]
    with pytest.raises(LocalError, match=f"^all 3 peers refuse: policy_cohort: {COHORT}$"):
        void(texts)


def test_all_of_them_for_its_version() -> None:
    with pytest.raises(LocalError, match=r"^all 3 peers refuse: other_protocol: upgrade$"):
        void(["other_protocol: upgrade"] * 3)


@pytest.mark.parametrize(
    "texts",
    [
        [f"policy_cohort: {COHORT}"] * 2,
        [f"policy_cohort: {COHORT}"] * 2 + ["policy_members: not one of the pinned members"],
        ["round_closed: unmask"] * 3,
        ["the app failed on this peer"] * 3,
    ],
    ids=["not all", "not the same", "no limit", "no limit either"],
)
def test_any_other_round_is_void_with_the_most_common_reason(texts: list[str]) -> None:
    reason = void(texts).reason
    assert reason.startswith("too_few_survivors; ")
    assert texts[0] in reason


def test_nobody_refused() -> None:
    assert void([]).reason == "too_few_survivors"
