"""Hands a run to Flower, and notes which Flower run carries it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from ..base.state import State
from ..runs.current_run import CurrentRun, load, save
from .flower_runs import Runs


async def submit(runs: Runs, path: Path, run: CurrentRun) -> CurrentRun:
    """Hands the run to Flower; LocalError if it is refused. Kept before and after, in case of a crash.

    The run returned is at its end if `smpcfl stop` came in between.
    """
    run = replace(run, flower_run="", ended="", reason="")
    save(path, run)
    flower_run = await runs.start(Path(run.app), run.config)
    kept = load(path)
    if kept is not None and kept.run == run.run and kept.ended:
        await runs.stop(flower_run)
        return kept
    run = replace(run, flower_run=flower_run)
    save(path, run)
    with State(path.parent).runs.open("a") as file:
        file.write(json.dumps({"run": run.run, "flower_run": flower_run}) + "\n")
    return run
