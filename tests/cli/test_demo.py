"""What the demo makes of a run that goes wrong, without its processes."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from smpcfl.aggregator import current_run
from smpcfl.aggregator.current_run import COMPLETED, FAILED, Training
from smpcfl.base.state import State
from smpcfl.cli import demo
from smpcfl.cli.stack import Stack
from smpcfl.protocol.errors import LocalError
from smpcfl.reports.report import RoundRecord


def record(number: int, outcome: Any) -> RoundRecord:
    return RoundRecord(
        run=1,
        round=number,
        mode="seeded",
        outcome=outcome,
        reason="" if outcome == "complete" else "2 of 5 survive",
        cohort=5,
        survivors=5,
        dropouts=0,
        accuracy=0.5,
        loss=1.0,
        train_loss=None,
        bytes_up=0.0,
        bytes_down=0.0,
        bytes_p2p=0.0,
        seconds=1.0,
        phase_seconds={},
    )


def ran(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcomes: list[str], ended: str, reason: str
) -> int:
    """The demo's exit code, over a stack whose two rounds went like that."""

    def start(stack: Stack) -> None:
        stack.records.parent.mkdir()
        records = [record(number, outcome) for number, outcome in enumerate(outcomes, 1)]
        stack.records.write_text("".join(item.to_json() + "\n" for item in records))
        run = Training("app", {}, 1, "9", ended, reason)
        current_run.save(State(stack.records.parent).training, run)

    def asleep(_: float) -> None:
        raise AssertionError("it waits for nothing")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(demo, "find_spec", lambda name: name)
    monkeypatch.setattr(Stack, "__enter__", lambda self: start(self) or self)
    monkeypatch.setattr("smpcfl.cli.stack.time.sleep", asleep)
    return demo.compare(("seeded",), 5, 2, 1, 1, tmp_path / "report")


@pytest.mark.parametrize("outcomes", [[], ["complete"]], ids=["no round", "one round"])
def test_a_run_that_failed_ends_the_demo_with_the_reason(
    outcomes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(LocalError, match=rf"failed after {len(outcomes)} of 2 rounds: no module x"):
        ran(tmp_path, monkeypatch, outcomes, FAILED, "no module x")


def test_without_a_complete_round_it_fails_and_leaves_its_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(LocalError, match="seeded: no round completed; the last one: 2 of 5 surv"):
        ran(tmp_path, monkeypatch, ["void", "void"], COMPLETED, "")
    assert json.loads((tmp_path / "report" / "report.json").read_text())


def test_with_one_it_succeeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ran(tmp_path, monkeypatch, ["void", "complete"], COMPLETED, "") == 0
