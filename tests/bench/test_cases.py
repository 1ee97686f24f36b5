"""The cases: each has its limit beside it, and gives no figure for a sum that is wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from smpcfl.bench import cases, limits, peak
from smpcfl.bench.cases import CASES, SHORT, Sizes
from smpcfl.bench.measured import BYTES, EIGHT, HERE, LIMIT, PLAIN, SECAGG, Measured
from smpcfl.bench.timing import Spread
from smpcfl.protocol.masks import SeededMasks
from smpcfl.tasks.digits.model import PARAMETERS

TINY = Sizes(words=1000, peers=6, parameters=200, whole=50, cohorts=(6,), turns=2, flower=False)


def quiet(text: str) -> None:
    pass


@pytest.fixture(autouse=True)
def _no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak, "peak", lambda parameters: 3 * peak.least(parameters))


@pytest.mark.parametrize("name", CASES)
def test_a_case_measures_its_sides_and_has_a_ratio_if_it_is_held(name: str) -> None:
    found = CASES[name].measure(TINY, quiet)
    assert all(0 < side.low <= side.median <= side.high for side in found.sides.values())
    if not CASES[name].held:
        assert found.ratio is None
        return
    assert found.ratio is not None
    assert found.sides.keys() - {EIGHT} in ({HERE, LIMIT}, {PLAIN, HERE})
    if found.unit == BYTES:
        assert found.ratio == found.sides[HERE].median / found.sides[found.base].median


@pytest.mark.parametrize("name", ["client", "server", "bytes"])
def test_flower_takes_its_turns_on_the_same_work(name: str) -> None:
    found = CASES[name].measure(replace(TINY, flower=True), quiet)
    assert list(found.sides)[:3] == [PLAIN, SECAGG, HERE]
    assert found.work == CASES[name].measure(TINY, quiet).work


def test_the_upload_is_half_of_plain_and_a_quarter_of_secagg() -> None:
    sizes = replace(TINY, parameters=100_000, flower=True)
    found = CASES["bytes"].measure(sizes, quiet)
    plain, secagg, here = (found.sides[side].median for side in (PLAIN, SECAGG, HERE))
    assert plain == 400_000
    assert secagg / plain == pytest.approx(2, rel=0.02)
    assert here / plain == pytest.approx(0.5, rel=0.02)


@pytest.mark.parametrize("name", ["masks", "client"])
def test_masks_that_do_not_come_off_give_no_figures(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = SeededMasks.apply

    def wrong(self: SeededMasks, addend: Any) -> Any:
        masked = right(self, addend)
        masked.body[7] += 1000
        return masked

    monkeypatch.setattr(SeededMasks, "apply", wrong)
    with pytest.raises(RuntimeError, match="mean nothing"):
        CASES[name].measure(TINY, quiet)


def test_a_quantiser_that_is_off_gives_no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    right = cases.encode

    def wrong(*given: Any) -> Any:
        addend = right(*given)
        addend.body[7] += 3
        return addend

    monkeypatch.setattr(cases, "encode", wrong)
    with pytest.raises(RuntimeError, match="mean nothing"):
        CASES["quantise"].measure(TINY, quiet)


def test_the_short_form_is_other_work_so_its_ratios_are_its_own() -> None:
    assert (SHORT.words, SHORT.peers, SHORT.flower) != (Sizes().words, Sizes().peers, True)
    assert Sizes().whole == PARAMETERS


def test_the_limit_of_the_quantiser_goes_through_all_of_the_update() -> None:
    given, trained = np.zeros(100_000, np.float32), np.ones(100_000, np.float32)
    into = limits.read_update(given, trained)
    for start in range(0, 100_000, 32 * 1024):  # of a block the first half, for half as many bytes
        assert into[start : start + 100].any()
    assert into[-100:].any()


@pytest.mark.commands
def test_peak_memory_is_that_of_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    least = peak.least(1_000_000)
    assert least == 10_000_000
    assert least <= peak.peak(1_000_000) < 10 * least


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            Measured("", "s", {HERE: Spread(2.0, 1.0, 3.0), LIMIT: Spread(1.0, 1.0, 1.0)}, 2.2),
            "2.2",
        ),
        (Measured("", "s", {HERE: Spread(2.0, 1.0, 3.0), PLAIN: Spread(200.0, 1.0, 1.0)}), "0.01"),
        (Measured("", "s", {"a": Spread(2.0, 1.0, 3.0), LIMIT: Spread(1.0, 1.0, 1.0)}), ""),
    ],
)
def test_here_is_said_relative_to_the_other_sides(found: Measured, said: str) -> None:
    assert found.here_to(list(found.sides)[1]) == said
    assert found.here_to(HERE) == ""
