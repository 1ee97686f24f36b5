"""`smpcfl bench --check`: a kernel that became slower by half is noticed, a slow machine is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from smpcfl.bench import cases, check, limits, timing
from smpcfl.bench.cases import CASES, Sizes
from smpcfl.bench.suite import bench
from smpcfl.cli.main import main
from smpcfl.protocol.errors import LocalError
from smpcfl.protocol.masks import SeededMasks
from smpcfl.protocol.ring import RingVector

TINY = Sizes(words=100, turns=3, flower=False)


class Machine:
    """Its clock goes on by what the work of the case `masks` is said to take, and by nothing else."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.speed, self.kernel_s, self.measured = 0.0, 1.0, 3.0, 0
        self.disturbed: set[int] = set()  # measurements in which something slows the kernel alone
        apply = SeededMasks.apply

        def masking(masks: SeededMasks, addend: RingVector) -> RingVector:
            slow = 2.0 if self.measured in self.disturbed else 1.0
            self.now += self.kernel_s * slow / self.speed
            return apply(masks, addend)

        def keystream(count: int) -> None:
            self.now += 1.0 / self.speed

        in_turn = cases.in_turn

        def measuring(*given: Any) -> Any:
            self.measured += 1
            return in_turn(*given)

        monkeypatch.setattr(SeededMasks, "apply", masking)
        monkeypatch.setattr(cases, "in_turn", measuring)
        monkeypatch.setattr(limits, "keystream", keystream)
        monkeypatch.setattr(timing, "perf_counter", lambda: self.now)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


@pytest.fixture
def kept(machine: Machine, tmp_path: Path) -> Path:
    file = tmp_path / "kept.json"
    assert bench(["masks"], json_file=file, sizes=TINY) == 0
    assert json.loads(file.read_text())["cases"]["masks"]["ratio"] == 3.0
    machine.measured = 0
    return file


@pytest.mark.parametrize(
    ("slower", "measured", "said"),
    [
        (1.0, 1, "here / limit is 3.00, committed 3.00: as before"),
        (1.3, 1, "is 3.90, committed 3.00: as before"),
        (1.5, 3, "is 4.50, committed 3.00: worse by 50%"),
        (0.5, 1, "is 1.50, committed 3.00: better by 50%; commit it"),
    ],
)
def test_a_kernel_made_slower_by_half_fails_after_three_measurements(
    slower: float,
    measured: int,
    said: str,
    machine: Machine,
    kept: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    machine.kernel_s *= slower
    assert bench(["masks"], checked=True, against=kept, sizes=TINY) == int(slower == 1.5)
    assert machine.measured == measured
    shown = capsys.readouterr().out
    assert said in shown
    assert shown.count("once more") == measured - 1
    assert (check.REMEDY.split(":")[0] in " ".join(shown.split())) == (slower == 1.5)


@pytest.mark.parametrize(("slower", "code"), [(1.9, 0), (2.1, 1)])
def test_on_another_processor_twice_as_much_fails(
    slower: float,
    code: int,
    machine: Machine,
    kept: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    members = json.loads(kept.read_text())
    members["machine"]["cpu"] = "Another 9000"
    kept.write_text(json.dumps(members))
    machine.kernel_s *= slower
    assert bench(["masks"], checked=True, against=kept, sizes=TINY) == code
    assert "ratios of another processor (Another 9000)" in capsys.readouterr().out


@pytest.mark.parametrize("speed", [0.1, 10.0])
def test_how_fast_the_machine_is_has_no_part_in_it(
    speed: float, machine: Machine, kept: Path
) -> None:
    machine.speed = speed
    assert bench(["masks"], checked=True, against=kept, sizes=TINY) == 0


@pytest.mark.parametrize(("disturbed", "code"), [({1}, 0), ({1, 2}, 0), ({1, 2, 3}, 1)])
def test_a_disturbance_has_to_come_three_times(
    disturbed: set[int], code: int, machine: Machine, kept: Path
) -> None:
    machine.disturbed = disturbed
    assert bench(["masks"], checked=True, against=kept, sizes=TINY) == code


def test_a_real_kernel_that_does_its_work_twice_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Many short turns: what disturbs some of them does not move the median.
    sizes, file = Sizes(words=200_000, turns=101, flower=False), tmp_path / "kept.json"
    assert bench(["masks"], json_file=file, sizes=sizes) == 0
    apply = SeededMasks.apply

    def twice(self: SeededMasks, addend: RingVector) -> RingVector:
        apply(self, addend.copy())
        return apply(self, addend)

    monkeypatch.setattr(SeededMasks, "apply", twice)
    assert bench(["masks"], checked=True, against=file, sizes=sizes) == 1


def test_other_work_than_the_committed_is_not_compared(machine: Machine, kept: Path) -> None:
    with pytest.raises(LocalError, match="'masks' is committed for this work"):
        bench(["masks"], checked=True, against=kept, sizes=Sizes(words=101, flower=False))
    with pytest.raises(LocalError, match="'bytes' is committed for this work"):
        bench(["bytes"], checked=True, against=kept, sizes=Sizes(parameters=10, flower=False))


@pytest.mark.parametrize("text", [None, "", "{}", "[]", '{"cases": 1}'])
def test_a_file_that_has_no_figures_is_an_error_before_the_work(
    text: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "kept.json"
    if text is not None:
        file.write_text(text)
    monkeypatch.setattr(timing, "in_turn", lambda *_: pytest.fail("it began to measure"))
    assert main(["bench", "masks", "--against", str(file)]) == 1
    said = capsys.readouterr()
    assert (said.out, str(file) in said.err) == ("", True)


@pytest.mark.parametrize("short", [False, True])
def test_every_case_that_is_held_has_a_committed_ratio(short: bool) -> None:
    kept = check.read(check.committed(short))
    assert all(kept.cases[name]["ratio"] > 0 for name, case in CASES.items() if case.held)
