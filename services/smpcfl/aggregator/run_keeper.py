"""Sees to the training run in hand: starts the first one, goes on with one that was interrupted."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace

from ..base import files
from ..base.config import Settings
from ..base.log_events import LogEvent, about
from ..base.metrics import Metrics
from ..base.state import State
from ..base.waiting import wait_for
from ..daemons.bundled import BUNDLED
from ..net.directory import Directory
from ..protocol.errors import LocalError
from ..runs import current_run
from ..runs.checkpoint import Checkpoints
from ..runs.current_run import COMPLETED, FAILED, STOPPED, CurrentRun
from . import submission
from .flower_runs import Runs, raised, why_raised

log = logging.getLogger("smpcfl.aggregator")
_SETTLE_S = 4.0
_RETRY_S = 2.0
_FOLLOW_S = 5.0
_ASK_S = 20.0  # Flower's command line takes more than a second of processor time
_NO_ROOM_S = 30.0
_REFUSALS = 3
_FRUITLESS = 2


def run_config(settings: Settings, rounds: int, peers: int) -> dict[str, int | float | str | bool]:
    """For the bundled app; `peers`: how many to wait for before the first round."""
    return {
        "num-rounds": rounds,
        "seed": settings.seed or 1 + secrets.randbelow(2**31 - 1),
        "min-peers": settings.min_peers,
        "expected-peers": max(peers, settings.min_peers),
    }


def first_run(settings: Settings) -> dict[str, int | str]:
    """What makes the first run; another one is made when it changes."""
    return {"mode": settings.mode, "rounds": settings.rounds, "seed": settings.seed}


def _listed(settings: Mapping[str, int | str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())


class RunKeeper:
    """`starts` counts those of the SuperLink: with it, the ServerApp of a run is gone."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        directory: Directory,
        runs: Runs,
        starts: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._directory = directory
        self._runs = runs
        self._starts = starts
        self._path = State(settings.state).current_run
        self._checkpoints = Checkpoints(State(settings.state).checkpoints)
        self._seen = ""
        self._reported = ""
        self._starts_before = 0
        self._done_before = 0
        self._fruitless = 0
        self._asked = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`."""
        found = current_run.load(self._path)
        if found is not None and found.ended:
            self._reported = found.flower_run
        if found is not None and not found.over:
            if found.mode in ("", self._settings.mode):
                await self._go_on(found, stop)
            else:
                await self._give_up(found, stop)
            found = current_run.load(self._path)
        if self._wants_first(found):
            await self._first(found, stop)
        while not stop.is_set():
            await wait_for(stop, _FOLLOW_S)
            if not stop.is_set():
                await self._look(stop)

    def _wants_first(self, found: CurrentRun | None) -> bool:
        """Whether it was never made, or with other settings."""
        if found is None:
            return self._settings.rounds > 0
        if not found.over:
            return False
        wanted = first_run(self._settings)
        if self._settings.rounds and found.first and found.first != wanted:
            log.info(
                "starting a new run: settings are now %s, were %s",
                _listed(wanted),
                _listed(found.first),
                extra=about(LogEvent.RUN_STARTED),
            )
            return True
        how = "is complete" if found.ended == COMPLETED else "was stopped"
        log.info("%s %s; start another with `smpcfl run`", found, how)
        return False

    async def _first(self, before: CurrentRun | None, stop: asyncio.Event) -> None:
        """Once enough peers are there and no more come, unless another run takes `before`'s place."""
        peers = await self._settled_peers(stop)
        if stop.is_set() or current_run.load(self._path) != before:
            return
        log.info("%d peers are there", peers)
        config = run_config(self._settings, self._settings.rounds, peers)
        first = first_run(self._settings)
        await self._submit(
            CurrentRun(str(BUNDLED), config, mode=self._settings.mode, first=first), stop
        )

    async def _stop_what_is_left(
        self, stop: asyncio.Event, going_on: CurrentRun | None = None
    ) -> None:
        """Flower's runs whose ServerApps died with the SuperLink, which does not know yet.

        `going_on` is of no Flower run before its own is stopped: whoever follows it would take that for a
        user's stop, and it for ended.
        """
        while not stop.is_set():
            try:
                left = await self._runs.active()
                if going_on is not None and going_on.flower_run in left:
                    self._save(replace(going_on, flower_run=""))
                for flower_run in left:
                    log.info(
                        "Flower run %s was cut off: stopping it",
                        flower_run,
                        extra=about(LogEvent.RUN_CUT_OFF),
                    )
                    await self._runs.stop(flower_run)
                return
            except LocalError as error:
                log.debug("waiting for the SuperLink: %s", error)
                await wait_for(stop, _RETRY_S)

    async def _give_up(self, found: CurrentRun, stop: asyncio.Event) -> None:
        """A run of another mode, with which the peers of this one would not go on."""
        now = self._settings.mode
        log.warning(
            "%s did not finish, and cannot be resumed in mode %s",
            found,
            now,
            extra=about(LogEvent.RUN_CUT_OFF, run=found.run),
        )
        await self._stop_what_is_left(stop)
        if not stop.is_set():
            self._end(found, STOPPED, f"the mode was changed to {now}")

    async def _go_on(self, found: CurrentRun, stop: asyncio.Event) -> None:
        """With a run that was cut off, unless that was just after its end."""
        log.info(
            "run %d did not finish: going on with it as soon as the SuperLink is up",
            found.run,
            extra=about(LogEvent.RUN_STARTED, run=found.run),
        )
        await self._stop_what_is_left(stop, going_on=found)
        if await self._runs.status(found.flower_run) == "finished:completed":
            self._end(found, COMPLETED)
        else:
            await self._submit(self._named(found), stop)

    async def _submit(self, wanted: CurrentRun, stop: asyncio.Event) -> None:
        """Not before there is room: a full disk would end it at once."""
        refused = 0
        while not stop.is_set():
            kept = current_run.load(self._path)
            if kept is not None and kept.run == wanted.run and kept.ended == STOPPED:
                return  # `smpcfl stop`
            try:
                files.check(self._settings.state, files.AGGREGATOR_BYTES)
            except files.StorageError as error:
                log.error(
                    "run %d waits: %s",
                    wanted.run,
                    error,
                    extra=about(LogEvent.STORAGE_FAILED, run=wanted.run),
                )
                await wait_for(stop, _NO_ROOM_S)
                continue
            try:
                submitted = await submission.submit(self._runs, self._path, wanted)
            except (LocalError, OSError) as error:
                if await self._reachable():
                    refused += 1
                    log.warning(
                        "run %d is not taken yet: %s",
                        wanted.run,
                        error,
                        extra=about(LogEvent.RUN_NOT_TAKEN, run=wanted.run),
                    )
                    if refused == _REFUSALS and (kept := current_run.load(self._path)) is not None:
                        self._end(kept, FAILED, str(error))
                        return
                await wait_for(stop, _RETRY_S)
                continue
            if submitted.ended:
                return  # `smpcfl stop`
            log.info(
                "run %d is submitted, as Flower run %s",
                wanted.run,
                submitted.flower_run,
                extra=about(LogEvent.RUN_STARTED, run=wanted.run),
            )
            self._note(submitted)
            return

    async def _reachable(self) -> bool:
        try:
            await self._runs.statuses()
        except LocalError as error:
            log.info("waiting for the SuperLink: %s", error, extra=about(LogEvent.WAITING))
            return False
        return True

    async def _look(self, stop: asyncio.Event) -> None:
        """Notes how the run in hand ended, whoever started it; goes on with it if it was cut off."""
        found = current_run.load(self._path)
        if found is None or not found.flower_run:
            return
        if found.ended:
            if found.flower_run != self._reported:  # as `smpcfl run` or `smpcfl stop` saw first
                self._report(found)
            return
        if found.flower_run != self._seen:
            named = self._named(found)
            if named != found and not self._save(named):
                return  # it is looked at again
            found = named
            self._note(found)
            self._fruitless = 0
        done = self._checkpoints.newest_round(found.run) == found.rounds
        now = asyncio.get_running_loop().time()
        if not done and now - self._asked < _ASK_S:
            return
        self._asked = now
        status = await self._runs.status(found.flower_run)
        if status == "finished:completed":
            self._end(found, COMPLETED)
        elif status == "finished:stopped":
            self._end(found, STOPPED)
        elif status.startswith("finished"):
            words = await self._runs.last_words(found.flower_run)
            details = await self._runs.details(found.flower_run)
            log.error(
                "Flower run %s %s\n%s",
                found.flower_run,
                status,
                words,
                extra=about(LogEvent.RUN_CUT_OFF, run=found.run),
            )
            if not raised(details, words) and self._worth_another(found):
                log.warning(
                    "going on with run %d",
                    found.run,
                    extra=about(LogEvent.RUN_STARTED, run=found.run),
                )
                await self._submit(found, stop)
            else:
                self._end(found, FAILED, why_raised(details or status, words))

    def _named(self, found: CurrentRun) -> CurrentRun:
        """With what `smpcfl run`, a process of its own, does not know of this one's settings."""
        first = found.first or first_run(self._settings)
        return replace(found, mode=found.mode or self._settings.mode, first=first)

    def _note(self, submitted: CurrentRun) -> None:
        self._seen = submitted.flower_run
        self._starts_before = self._starts()
        self._done_before = self._checkpoints.newest_round(submitted.run) or 0

    def _worth_another(self, found: CurrentRun) -> bool:
        """Of what was cut off: not if that happens again, without a round or a new SuperLink in between."""
        done = self._checkpoints.newest_round(found.run) or 0
        if self._starts() > self._starts_before or done > self._done_before:
            self._fruitless = 0
        else:
            self._fruitless += 1
        return self._fruitless < _FRUITLESS

    def _save(self, changed: CurrentRun) -> bool:
        try:
            current_run.save(self._path, changed)
        except OSError as error:
            self._cannot_store(changed, error)
            return False
        return True

    def _end(self, found: CurrentRun, how: str, reason: str = "") -> None:
        try:
            if current_run.end(self._path, found, how, reason):
                self._report(replace(found, ended=how))
        except OSError as error:
            self._cannot_store(found, error)  # it is looked at again

    def _cannot_store(self, run: CurrentRun, error: OSError) -> None:
        log.error(
            "cannot store the state of run %d: %s; make room",
            run.run,
            error,
            extra=about(LogEvent.STORAGE_FAILED, run=run.run),
        )

    def _report(self, over: CurrentRun) -> None:
        self._reported = over.flower_run
        self._metrics.rounds_left.set(0)
        if over.ended == COMPLETED:
            log.info(
                "%s is complete; start another with `smpcfl run`",
                over,
                extra=about(LogEvent.RUN_ENDED, run=over.run),
            )
        elif over.ended == STOPPED:
            log.info(
                "%s was stopped; start another with `smpcfl run`",
                over,
                extra=about(LogEvent.RUN_ENDED, run=over.run),
            )
        else:
            log.error(
                "run %d failed; start the aggregator again to go on with it, or another run with"
                " `smpcfl run`",
                over.run,
                extra=about(LogEvent.RUN_ENDED, run=over.run),
            )

    async def _settled_peers(self, stop: asyncio.Event) -> int:
        last, since, loop = -1, 0.0, asyncio.get_running_loop()
        while not stop.is_set():
            peers = self._directory.registered
            if peers != last:
                least = self._settings.min_peers
                log.info(
                    "waiting for peers: %d of at least %d are there",
                    peers,
                    least,
                    extra=about(LogEvent.WAITING_FOR_PEERS),
                )
                last, since = peers, loop.time()
            if peers >= self._settings.min_peers and loop.time() - since >= _SETTLE_S:
                return peers
            await wait_for(stop, 0.5)
        return 0
