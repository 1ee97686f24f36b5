"""What lets a run go on after the aggregator died: a checkpoint of each round that ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
from flwr.app import ArrayRecord

from ...base.log_events import LogEvent, about
from ...base.state import State
from ...protocol.errors import LocalError
from ...reports.record import RoundRecord
from ...runs import current_run
from ...runs.checkpoint import Checkpoint, Checkpoints
from ..shared.records import to_numpy, to_record
from .clipping import Clipping

if TYPE_CHECKING:
    from .secure_grid import SecureGrid

log = logging.getLogger("smpcfl.flower")
_LAST_TRIES = 60
_LAST_WAIT_S = 10.0
_started: set[str] = set()


class Progress:
    """The checkpoints of one run, for the Flower run that carries it at present."""

    def __init__(self, state: Path, run: int, flower_run: str) -> None:
        self.run = run
        self._checkpoints = Checkpoints(State(state).checkpoints)
        self._path = State(state).current_run
        self._flower_run = flower_run
        self._rounds = 0
        self._setup: dict[str, Any] = {}

    @classmethod
    def of(cls, state: Path, flower_run: str) -> Progress | None:
        """None, with a log line, for what cannot be resumed."""
        found = current_run.of_flower_run(State(state).current_run, flower_run)
        if found is None:
            log.warning(
                "no checkpoints: this run was not started with `smpcfl run`",
                extra=about(LogEvent.NO_CHECKPOINT),
            )
            return None
        if flower_run in _started:
            log.warning(
                "no checkpoints: they are of the first start() of a ServerApp alone",
                extra=about(LogEvent.NO_CHECKPOINT),
            )
            return None
        _started.add(flower_run)
        return cls(state, found.run, flower_run)

    def resume(
        self, initial: ArrayRecord, clipping: Clipping, rounds: int, setup: Mapping[str, Any]
    ) -> Checkpoint:
        """Where to go on: the newest whole checkpoint, or else one of `initial`, which is written.

        `setup`: what else decides the rounds to come; with `arrays` in it the model may be a part of
        `initial`. LocalError if that cannot be written, before anything is trained, or if the checkpoint is
        of another model.
        """
        self._rounds, self._setup = rounds, dict(setup)
        found = self._checkpoints.latest(self.run)
        if found is None:
            found = self._checkpoint(0, initial, clipping, 1, "")
            try:
                self._checkpoints.save(found)
            except OSError as error:
                raise LocalError(
                    f"training does not start, because no checkpoint can be kept: {error}; make"
                    " room, and start the aggregator again"
                ) from error
            return found
        was_shape, now_shape = _shape(found.arrays), _shape(to_numpy(initial))
        if setup.get("arrays"):  # Flower's own strategies go on with what the replies hold
            now_shape = [item for item in now_shape if item[0] in found.arrays]
        for was, now in zip_longest(was_shape, now_shape):
            if was != now:
                raise LocalError(
                    f"the checkpoint of round {found.round} is of another model: it has {was}, the"
                    f" app's has {now}; start another run with `smpcfl run`"
                )
        for difference in found.differences(setup):
            log.warning(
                "not as if it had not been interrupted: %s",
                difference,
                extra=about(LogEvent.NO_CHECKPOINT),
            )
        return found

    def keep(
        self, grid: SecureGrid, arrays: ArrayRecord, strategy: bytes, record: RoundRecord
    ) -> None:
        """After a round; `strategy`: what the strategy remembers.

        Logs a warning if it cannot be written, and training goes on.

        After the last round there is nothing to go on with: it waits for room, up to ten minutes.
        LocalError if another Flower run has taken over: this one ends.
        """
        current = current_run.load(self._path)
        if current is None or current.flower_run != self._flower_run:
            raise LocalError("another Flower run carries this training now: this one ends")
        number = record.round
        checkpoint = replace(
            self._checkpoint(number, arrays, grid.clipping, grid.first_try, record.to_json()),
            metrics={task: list(m.named) for task, m in grid.metrics.items() if not m.open},
            strategy=strategy,
        )
        for _ in range(_LAST_TRIES if number == self._rounds else 1):
            try:
                self._checkpoints.save(checkpoint)
                return
            except OSError as error:
                log.error(
                    "NO CHECKPOINT of round %d: %s. Training goes on, but if the aggregator stops now,"
                    " this round is lost: make room",
                    number,
                    error,
                    extra=about(LogEvent.NO_CHECKPOINT, round=number),
                )
            if number == self._rounds:
                time.sleep(_LAST_WAIT_S)

    def _checkpoint(
        self, number: int, arrays: ArrayRecord, clipping: Clipping, first_try: int, record: str
    ) -> Checkpoint:
        return Checkpoint(
            run=self.run,
            round=number,
            rounds=self._rounds,
            clip=clipping.clip,
            weight_cap=clipping.weight_cap,
            setup=self._setup,
            record=record,
            first_try=first_try,
            arrays=to_numpy(arrays),
        )


def arrays_of_checkpoint(checkpoint: Checkpoint) -> ArrayRecord:
    return to_record(dict(checkpoint.arrays))


def clipping_of(checkpoint: Checkpoint) -> Clipping:
    return Clipping(checkpoint.clip, checkpoint.weight_cap)


def _shape(arrays: Mapping[str, npt.NDArray[Any]]) -> list[tuple[str, tuple[int, ...]]]:
    """Without dtypes: some strategies calculate in others than the model came in."""
    return [(name, array.shape) for name, array in arrays.items()]
