"""A run is kept before and after Flower is asked to carry it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from smpcfl.aggregator.submission import submit
from smpcfl.base.state import State
from smpcfl.protocol.errors import LocalError
from smpcfl.runs import current_run
from smpcfl.runs.current_run import FAILED, STOPPED, CurrentRun
from support.fake_runs import FakeRuns

TRAINING = CurrentRun("/app", {"num-rounds": 3}, run=7, mode="seeded")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return State(tmp_path).current_run


async def test_a_submitted_run_knows_the_flower_run_that_carries_it(path: Path) -> None:
    assert current_run.load(path) is None
    submitted = await submit(FakeRuns(), path, replace(TRAINING, ended=FAILED))
    assert submitted == replace(TRAINING, flower_run="100") == current_run.load(path)
    assert current_run.carried(State(path.parent).runs) == {7: ["100"]}


async def test_a_run_is_kept_before_flower_is_asked(path: Path) -> None:
    class Down(FakeRuns):
        async def start(self, *_: object) -> str:
            raise LocalError("no SuperLink")

    with pytest.raises(LocalError):
        await submit(Down(), path, TRAINING)
    assert current_run.load(path) == TRAINING


async def test_a_run_stopped_while_it_was_submitted_stays_stopped(path: Path) -> None:
    class Slow(FakeRuns):
        async def start(self, *given: object) -> str:
            assert current_run.end(path, TRAINING, STOPPED)
            return await super().start(*given)  # type: ignore[arg-type]

    runs = Slow()
    assert (await submit(runs, path, TRAINING)).ended == STOPPED
    assert runs.log[-1] == ("stop", "100")
    assert current_run.carried(State(path.parent).runs) == {}
