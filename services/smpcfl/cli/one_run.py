"""One run of `smpcfl demo` or `compare`: a stack of its own, a training on it, and what is left of that."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from ..aggregator import rounds_service as kept
from ..aggregator import submission
from ..aggregator.flower_runs import COLOUR, Runs
from ..protocol.errors import LocalError, Reason
from ..reports import pictures
from ..reports.live_runs import LiveRuns
from ..reports.pictures import Picture
from ..reports.record import RoundRecord, line
from ..runs import current_run
from ..runs.current_run import COMPLETED, CurrentRun
from .live_page import Follow
from .peer_logs import first_traceback, with_traceback
from .stack import Stack
from .wanted import Wanted

SERVER_LOG = "server.log"
_START_S = 120.0
_ROUND_S = 300.0
_OWN_ROUND_S = 3600.0  # what somebody's own training takes is not ours to know
WARNING = "warning: "  # as the ServerApp's log of ours has it

NO_ROUND = (
    "the app ended without a round that was reported: its ServerApp has to train with"
    " smpcfl.flower.SecureStrategy (docs/your-app.md)"
)


class OneRun:
    """`apps`: the peers' setting; `results`: where what the ServerApp saved and printed goes, if anywhere."""

    def __init__(
        self,
        progress: Progress,
        console: Console,
        mode: str,
        wanted: Wanted,
        apps: str,
        results: Path | None,
        live: LiveRuns,
    ) -> None:
        self._progress = progress
        self._console = console
        self._mode = mode
        self._name = mode
        self._wanted = wanted
        self._apps = apps
        self._results = results
        self._live = live
        self._followed: Follow | None = None
        self._number = wanted.number
        self._task = progress.add_task(f"{mode}: starting {wanted.peers} peers", total=self._number)
        self._folder = Path(tempfile.mkdtemp(prefix="smpcfl-"))
        self._records: list[RoundRecord] = []
        self.pictures: list[Picture] = []
        self._over = False

    def train(self, offset: int) -> list[RoundRecord]:
        """The records, with the app's seed `offset` further on. LocalError if the run fails."""
        self._name = f"{self._mode}, run {offset + 1}" if offset else self._mode
        try:
            with self._stack() as stack:
                self._followed = Follow(self._mode, stack.page_port)
                stack.wait(stack.answers, _START_S, "the start of the SuperLink")
                runs = Runs(stack.aggregator.path, stack.superlink_port, stack.host)
                self._submit(stack, runs, offset)
                try:
                    self._to_the_end(stack)
                finally:
                    self._keep_output(stack, runs)
            self._progress.update(self._task, description=f"{self._mode}: done")
            self._show_end()
            self._save(stack.aggregator.results)
            self.pictures = pictures.load(stack.aggregator.seen)
            if all(record.outcome == "void" for record in self._records):
                self._say(first_traceback(self._folder))
            return self._records
        except LocalError as error:
            kept_at = Path(tempfile.gettempdir()) / f"smpcfl-logs-{self._folder.name}"
            kept_at.mkdir(exist_ok=True)
            for path in [*self._folder.glob("*.log"), *self._folder.glob("*/log/*.log")]:
                shutil.copy(path, kept_at / f"{path.parent.parent.name}-{path.name}")
            why = (str(error), first_traceback(self._folder), f"all logs: {kept_at}")
            raise LocalError("\n".join(filter(None, why))) from error
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _stack(self) -> Stack:
        wanted = self._wanted
        return Stack(self._folder, self._mode, wanted.peers, 0, 0, self._apps, wanted.node_config)

    def _submit(self, stack: Stack, runs: Runs, offset: int) -> None:
        wanted = self._wanted
        run = CurrentRun(str(wanted.folder), wanted.config(offset))
        asyncio.run(submission.submit(runs, stack.aggregator.current_run, run))

    def _to_the_end(self, stack: Stack) -> None:
        while not self._over:
            count = len(self._records)
            seconds = _ROUND_S if self._wanted.app is None else _OWN_ROUND_S
            seconds += 0.0 if count else _START_S
            stack.wait(partial(self._goes_on, stack, count), seconds, f"round {count + 1}")

    def _goes_on(self, stack: Stack, count: int) -> bool:
        self._follow(stack)
        return self._over or len(self._records) > count

    def _follow(self, stack: Stack) -> None:
        self._look()
        # First how the run stands, then its records: none of the last ones is missed.
        run = current_run.load(stack.aggregator.current_run)
        for record in kept.read(stack.aggregator.records)[len(self._records) : self._number]:
            self._records.append(record)
            self._progress.update(self._task, completed=len(self._records))
            self._say(line(record, self._number))
            self._check_that_it_trains(record)
        shown = len(self._records)
        if self._wanted.app is None and self._number is not None and shown >= self._number:
            self._over = True  # it saves nothing that would have to be waited for
        elif run is not None and run.ended:
            self._over = True
            if run.ended != COMPLETED:
                rounds = f"{shown} of {self._number}" if self._number is not None else f"{shown}"
                raise LocalError(f"the run {run.ended} after {rounds} rounds: {run.reason}")
            if not shown:
                raise LocalError(NO_ROUND)

    def _look(self) -> None:
        """For the page and the progress."""
        if self._followed is None or (now := self._followed.look()) is None:
            return
        self._live.put(self._name, now)
        self._progress.update(self._task, description=f"{self._mode}: {now.progress()}")

    def _show_end(self) -> None:
        """With all records: the aggregator may have ended before the last one was asked for."""
        if self._followed is not None and (last := self._followed.last) is not None:
            over = replace(last, phase="", said="", records=tuple(self._records))
            self._live.put(self._name, over)

    def _check_that_it_trains(self, record: RoundRecord) -> None:
        """LocalError if it failed on every peer, whose logs are all here, and no round was complete."""
        if any(item.outcome == "complete" for item in self._records):
            return
        # A traceback alone may be one of Flower's, of a connection that was lost.
        failed = record.reason.startswith(Reason.TOO_FEW_CONTRIBUTORS)
        if failed and with_traceback(self._folder) == self._wanted.peers:
            raise LocalError(
                f"training failed on all {self._wanted.peers} peers in round {record.round}, so no round"
                " can complete; the first traceback:"
            )

    def _keep_output(self, stack: Stack, runs: Runs) -> None:
        """What the ServerApp printed, whole in a file, and its warnings here, each once."""
        run = current_run.load(stack.aggregator.current_run)
        if run is None or not run.flower_run:
            return
        printed = COLOUR.sub("", asyncio.run(runs.printed(run.flower_run)))
        for text in dict.fromkeys(printed.splitlines()):
            if text.startswith(WARNING):
                self._say(f"{self._mode}: {text}")
        if self._results is not None and printed:
            self._results.mkdir(parents=True, exist_ok=True)
            (self._results / SERVER_LOG).write_text(printed)

    def _save(self, found: Path) -> None:
        """Unless the app saved nothing."""
        if self._results is not None and any(found.glob("*")):
            shutil.copytree(found, self._results, dirs_exist_ok=True)

    def _say(self, text: str) -> None:
        if text:
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)
