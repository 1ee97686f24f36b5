"""The run in hand, as its file tells it: submitted, carried by Flower's runs, and ended once."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from smpcfl.base.state import State
from smpcfl.runs import current_run
from smpcfl.runs.current_run import COMPLETED, FAILED, CurrentRun

TRAINING = CurrentRun("/app", {"num-rounds": 3}, run=7, mode="seeded")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return State(tmp_path).current_run


def test_a_run_ends_once_and_only_as_it_stands(path: Path) -> None:
    current_run.save(path, TRAINING)
    assert not current_run.end(path, replace(TRAINING, run=8), COMPLETED)
    assert current_run.end(path, TRAINING, FAILED, "why")
    assert not current_run.end(path, TRAINING, COMPLETED)
    found = current_run.load(path)
    assert found == replace(TRAINING, ended=FAILED, reason="why")
    assert not found.over, "it is tried again"


def test_what_a_later_version_wrote_beside_it_is_left_out(path: Path) -> None:
    current_run.save(path, TRAINING)
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "priority": [1]}))
    assert current_run.load(path) == TRAINING


def test_a_line_torn_by_a_crash_hides_no_other(tmp_path: Path) -> None:
    lines = [
        '{"run": 7, "flower_run": "1"}',
        '{"run": 7, "flo',
        "[]",
        '{"run": 7, "flower_run": "2"}',
    ]
    (tmp_path / "runs.jsonl").write_text("\n".join(lines))
    assert current_run.carried(tmp_path / "runs.jsonl") == {7: ["1", "2"]}


def test_the_serverapp_finds_the_run_that_it_carries_and_no_other(path: Path) -> None:
    assert current_run.of_flower_run(path, "100") is None, "no run at all"
    current_run.save(path, replace(TRAINING, flower_run="100"))
    found = current_run.of_flower_run(path, "100")
    assert found is not None
    assert found.run == 7
    assert current_run.of_flower_run(path, "101") is None


def test_it_waits_for_the_number_of_a_run_that_is_being_submitted(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    current_run.save(path, TRAINING)
    waited = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        current_run.save(path, replace(TRAINING, flower_run="100"))

    monkeypatch.setattr(time, "sleep", sleep)
    assert current_run.of_flower_run(path, "100") == replace(TRAINING, flower_run="100")
    assert len(waited) == 1


@pytest.mark.parametrize(
    ("training", "text"),
    [
        (TRAINING, "run 7 (3 rounds, mode seeded)"),
        (CurrentRun("/app", {"num-server-rounds": 2}, 7), "run 7 (2 rounds)"),
        (CurrentRun("/app", {}, 7), "run 7"),
    ],
)
def test_a_run_says_what_is_known_of_it(training: CurrentRun, text: str) -> None:
    assert str(training) == text
