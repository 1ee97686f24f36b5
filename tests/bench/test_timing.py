"""Measurements in turn: every side meets the same disturbances, and the first turn does not count."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from smpcfl.bench import timing
from smpcfl.bench.timing import Spread


def test_sides_take_turns_after_one_to_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, done = 0.0, list[str]()
    takes = {"a": iter([100.0, 1.0, 2.0]), "b": iter([100.0, 10.0, 20.0])}

    def work(name: str) -> Callable[[], None]:
        def run() -> None:
            nonlocal clock
            clock += next(takes[name])
            done.append(name)

        return run

    monkeypatch.setattr(timing, "perf_counter", lambda: clock)
    said: list[str] = []
    taken = timing.in_turn({"a": work("a"), "b": work("b")}, 2, said.append)
    assert done == ["a", "b"] * 3
    assert taken == {"a": [1.0, 2.0], "b": [10.0, 20.0]}
    assert said == ["warming up", "turn 1 of 2", "turn 2 of 2"]


def test_what_slows_one_turn_does_not_move_the_ratio() -> None:
    assert timing.ratio_of([2.0, 20.0, 3.0], [1.0, 10.0, 1.0]) == 2.0


@pytest.mark.parametrize(
    ("values", "spread"),
    [([3.0], Spread(3.0, 3.0, 3.0)), ([5.0, 1.0, 2.0, 4.0, 3.0], Spread(3.0, 2.0, 4.0))],
)
def test_a_spread_is_the_median_and_the_middle_half(values: list[float], spread: Spread) -> None:
    assert Spread.of(iter(values)) == spread


@pytest.mark.parametrize(
    ("text", "expected"),
    [("processor : 0\nmodel name\t: Some CPU: fast\n", "Some CPU: fast"), ("model name:\n", None)],
)
def test_the_processor_is_named(tmp_path: Path, text: str, expected: str | None) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(text)
    assert timing.cpu_model(file) == expected or (expected is None and timing.cpu_model(file))
    assert timing.cpu_model(tmp_path / "missing")
