"""Follows a training run to its end: what its ServerApp prints, how it stands, and the result."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from ..aggregator.flower_runs import COLOUR, FlowerRun, Runs, raised, why_raised
from ..base.state import State
from ..protocol.errors import LocalError
from ..protocol.ticket import MODES
from ..reports.record import RoundRecord
from ..reports.units import decimal
from ..runs import current_run
from ..runs.current_run import COMPLETED, FAILED, STOPPED, CurrentRun

_POLL_S = 1.0
_WORDS = 4000


class Follower:
    """Of the run in hand of the aggregator whose folder is `state`.

    `write` gets what the ServerApp prints, piece by piece; with `colour` as it is. `say` gets our own lines.
    """

    def __init__(
        self,
        runs: Runs,
        state: Path,
        write: Callable[[str], object],
        say: Callable[[str], object],
        *,
        colour: bool = False,
    ) -> None:
        self._runs = runs
        self._path = State(state).current_run
        self._write = write
        self._say = say
        self._colour = colour
        self._flower_run = ""
        self._shown = 0  # characters of what it printed
        self._words = ""
        self._said = ""

    async def to_the_end(self, run: int) -> CurrentRun:
        """The run as it ended. LocalError if another one took its place."""
        while True:
            found = self._load(run)
            if found.ended:
                return found
            if found.flower_run:
                await self._show(found.flower_run)
                await self._look(found)
            else:
                await asyncio.sleep(_POLL_S)

    def _load(self, run: int) -> CurrentRun:
        found = current_run.load(self._path)
        if found is None or found.run != run:
            raise LocalError(f"run {run} was given up for another")
        return found

    async def _show(self, flower_run: str) -> None:
        """Until it is over, or the SuperLink does not answer."""
        if flower_run != self._flower_run:
            self._flower_run, self._shown, self._words = flower_run, 0, ""
        seen = 0
        async for text in self._runs.output(flower_run):
            new = text[max(self._shown - seen, 0) :]
            seen += len(text)
            if not new:
                continue
            self._shown += len(new)
            self._words = (self._words + new)[-_WORDS:]
            self._write(new if self._colour else COLOUR.sub("", new))

    async def _look(self, found: CurrentRun) -> None:
        """Notes how it ended. If it was cut off, that is for the aggregator, which goes on with it."""
        flower_run = await self._ask(found.flower_run)
        if flower_run is None or flower_run.active:
            await asyncio.sleep(_POLL_S)
        elif flower_run.status == "finished:completed":
            current_run.end(self._path, found, COMPLETED)
        elif flower_run.status == "finished:stopped":
            current_run.end(self._path, found, STOPPED)
        elif raised(flower_run.details, self._words):
            reason = why_raised(flower_run.details, self._words)
            current_run.end(self._path, found, FAILED, reason)
        else:
            self._once(f"Flower run {found.flower_run} was cut off: the aggregator goes on with it")
            await self._until_it_changes(found)

    async def _ask(self, flower_run: str) -> FlowerRun | None:
        try:
            listed = await self._runs.listed()
        except LocalError as error:
            self._once(f"waiting: {error}")
            return None
        return next((item for item in listed if item.run_id == flower_run), None)

    async def _until_it_changes(self, found: CurrentRun) -> None:
        """`found` may be named by the aggregator meanwhile, which is no change."""
        while True:
            now = self._load(found.run)
            if now.ended or now.flower_run != found.flower_run:
                return
            await asyncio.sleep(_POLL_S)

    def _once(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self._say(text)


def result(over: CurrentRun, records: list[RoundRecord], mode: str) -> str:
    """The last line on a run that ended. LocalError if it failed, was stopped, or completed no round.

    `mode`: of the deployment, where the run does not say.
    """
    own = [record for record in records if record.run == over.run]
    complete = [record for record in own if record.outcome == "complete"]
    number = over.rounds if over.rounds is not None else len(own)
    rounds = f"{len(complete)} of {number} rounds"
    if over.ended == FAILED:
        raise LocalError(f"run {over.run} failed after {rounds}: {first_line(over.reason)}")
    if over.ended == STOPPED:
        raise LocalError(f"run {over.run} was stopped after {rounds}")
    if own and not complete:
        raise LocalError(f"run {over.run}: no round completed; the last one: {own[-1].reason}")
    if not own and MODES[over.mode or mode].secure:
        raise LocalError(
            f"run {over.run}: the app ended without a round; its ServerApp has to train with"
            " smpcfl.flower.SecureStrategy"
        )
    if not own:
        return f"run {over.run} is complete"
    last = complete[-1]
    about = f"accuracy {decimal(last.accuracy)}, loss {decimal(last.loss)}"
    seconds = sum(record.seconds for record in own)
    return f"run {over.run} is complete: {rounds}, {about}, {seconds:.0f} s"


def first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "no reason given")
