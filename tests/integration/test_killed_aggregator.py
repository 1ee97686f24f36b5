"""The aggregator is killed in the middle of a run, and goes on where it was: with real processes."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from smpcfl.aggregator import rounds_service
from smpcfl.base.state import State
from smpcfl.cli.stack import Stack
from smpcfl.daemons.allowed_apps import hash_of
from smpcfl.reports.record import RoundRecord
from smpcfl.runs.checkpoint import Checkpoint, Checkpoints
from support.light_app import light_app, running
from support.processes import kill, start_again

PEERS, ROUNDS = 3, 3


def a_stack(folder: Path, app: Path) -> Stack:
    return Stack(folder, "seeded", PEERS, 0, 1, hash_of(app))


def records(stack: Stack) -> list[RoundRecord]:
    return rounds_service.read(stack.records)


def final(stack: Stack) -> Checkpoint:
    found = Checkpoints(State(stack.folder / "aggregator").checkpoints).latest(
        records(stack)[-1].run
    )
    assert found is not None
    return found


@pytest.mark.processes
@pytest.mark.timeout(900)
def test_a_killed_aggregator_goes_on_with_the_same_model(tmp_path: Path) -> None:
    app = light_app(tmp_path / "app", ROUNDS)
    with a_stack(tmp_path / "whole", app) as stack, running(stack, app):
        stack.wait(lambda: len(records(stack)) == ROUNDS, 280, "training")
        undisturbed = final(stack)

    with a_stack(tmp_path / "cut", app) as stack, running(stack, app):
        stack.wait(lambda: len(records(stack)) == 2, 280, "two rounds")
        kill(stack, "aggregator")
        registry = stack._processes["registry"].pid
        os.kill(registry, signal.SIGSTOP)  # and without a registry that answers, at that
        start_again(stack, "aggregator")
        try:
            stack.wait(lambda: len(records(stack)) == ROUNDS, 280, "the rest")
        finally:
            os.kill(registry, signal.SIGCONT)
        resumed = final(stack)
        found = records(stack)
        log = stack.log("aggregator")

    assert [(r.run, r.round) for r in found] == [(found[0].run, n + 1) for n in range(ROUNDS)]
    assert all(r.outcome == "complete" and r.survivors == PEERS for r in found), log
    assert f"resuming run {found[0].run} at round 3 after round 2's checkpoint" in log
    assert (resumed.round, resumed.clip, resumed.weight_cap) == (
        ROUNDS,
        undisturbed.clip,
        undisturbed.weight_cap,
    )
    assert list(resumed.arrays) == list(undisturbed.arrays)
    for name, array in undisturbed.arrays.items():
        assert (array != array.round()).all(), "rounding shows in each number"
        np.testing.assert_array_equal(resumed.arrays[name].view(np.uint32), array.view(np.uint32))
