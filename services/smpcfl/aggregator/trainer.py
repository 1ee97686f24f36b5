"""Sees to the training run in hand: starts the first one, goes on with one that was interrupted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

from .. import storage
from ..config import Settings
from ..directory import Directory
from ..protocol.errors import LocalError
from ..waiting import wait_for
from . import training
from .checkpoint import Checkpoints, checkpoints_path
from .runs import APP, Runs
from .training import COMPLETED, FAILED, STOPPED, Training

log = logging.getLogger("smpcfl.aggregator")
_SETTLE_S = 4.0
_RETRY_S = 2.0
_FOLLOW_S = 5.0
_NO_ROOM_S = 30.0
_REFUSALS = 3
_FRUITLESS = 2


def run_config(settings: Settings, rounds: int, peers: int) -> dict[str, int | float | str | bool]:
    """For the bundled app; `peers`: how many to wait for before the first round."""
    return {
        "num-rounds": rounds,
        "seed": settings.seed,
        "min-peers": settings.min_peers,
        "expected-peers": max(peers, settings.min_peers),
    }


class Trainer:
    """`starts` counts those of the SuperLink: with it, the ServerApp of a run is gone."""

    def __init__(
        self, settings: Settings, directory: Directory, runs: Runs, starts: Callable[[], int]
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._runs = runs
        self._starts = starts
        self._path = training.training_path(settings.state)
        self._checkpoints = Checkpoints(checkpoints_path(settings.state))
        self._seen = ""
        self._starts_before = 0
        self._done_before = 0
        self._fruitless = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`."""
        found = training.load(self._path)
        if found is None:
            if self._settings.rounds:
                await self._first(stop)
        elif not found.over:
            await self._go_on(found, stop)
        while not stop.is_set():
            await wait_for(stop, _FOLLOW_S)
            if not stop.is_set():
                await self._look(stop)

    async def _first(self, stop: asyncio.Event) -> None:
        """Once enough peers are there and no more come."""
        peers = await self._settled_peers(stop)
        if stop.is_set() or training.load(self._path) is not None:
            return
        log.info("%d peers are there", peers)
        config = run_config(self._settings, self._settings.rounds, peers)
        await self._submit(Training(str(APP), config), stop)

    async def _go_on(self, found: Training, stop: asyncio.Event) -> None:
        """With a run that was cut off, unless that was just after its end."""
        log.info(
            "run %d did not finish: going on with it as soon as the SuperLink is up", found.run
        )
        while not stop.is_set():
            try:
                # Their ServerApps died with the SuperLink, which does not know yet.
                for flower_run in await self._runs.active():
                    log.info("Flower run %s was cut off: stopping it", flower_run)
                    await self._runs.stop(flower_run)
                break
            except LocalError as error:
                log.debug("waiting for the SuperLink: %s", error)
                await wait_for(stop, _RETRY_S)
        if await self._runs.status(found.flower_run) == "finished:completed":
            self._end(found, COMPLETED)
        else:
            await self._submit(found, stop)

    async def _submit(self, wanted: Training, stop: asyncio.Event) -> None:
        """Not before there is room: a full disk would end it at once."""
        refused = 0
        while not stop.is_set():
            try:
                storage.check(self._settings.state, storage.AGGREGATOR_BYTES)
            except storage.StorageError as error:
                log.error("run %d waits: %s", wanted.run, error)
                await wait_for(stop, _NO_ROOM_S)
                continue
            try:
                submitted = await training.submit(self._runs, self._path, wanted)
            except (LocalError, OSError) as error:
                if await self._reachable():
                    refused += 1
                    log.warning("run %d is not taken yet: %s", wanted.run, error)
                    if refused == _REFUSALS and (kept := training.load(self._path)) is not None:
                        self._end(kept, FAILED, str(error))
                        return
                await wait_for(stop, _RETRY_S)
                continue
            log.info("run %d is submitted, as Flower run %s", wanted.run, submitted.flower_run)
            self._note(submitted)
            return

    async def _reachable(self) -> bool:
        try:
            await self._runs.statuses()
        except LocalError as error:
            log.info("waiting for the SuperLink: %s", error)
            return False
        return True

    async def _look(self, stop: asyncio.Event) -> None:
        """Notes how the run in hand ended, whoever started it; goes on with it if it was cut off."""
        found = training.load(self._path)
        if found is None or found.ended or not found.flower_run:
            return
        if found.flower_run != self._seen:
            self._note(found)
            self._fruitless = 0
        status = await self._runs.status(found.flower_run)
        if status == "finished:completed":
            self._end(found, COMPLETED)
        elif status == "finished:stopped":
            self._end(found, STOPPED)
        elif status.startswith("finished"):
            words = await self._runs.last_words(found.flower_run)
            log.error("Flower run %s %s\n%s", found.flower_run, status, words)
            if self._worth_another(found):
                log.warning("going on with run %d", found.run)
                await self._submit(found, stop)
            else:
                self._end(found, FAILED, f"{status}\n{words}")

    def _note(self, submitted: Training) -> None:
        self._seen = submitted.flower_run
        self._starts_before = self._starts()
        self._done_before = self._checkpoints.newest_round(submitted.run) or 0

    def _worth_another(self, found: Training) -> bool:
        """Not if it failed again, without a round in between and without an accident to blame."""
        done = self._checkpoints.newest_round(found.run) or 0
        if self._starts() > self._starts_before or done > self._done_before:
            self._fruitless = 0
        else:
            self._fruitless += 1
        return self._fruitless < _FRUITLESS

    def _end(self, found: Training, how: str, reason: str = "") -> None:
        if training.load(self._path) != found:
            return  # `smpcfl run` has put another one there
        try:
            training.save(self._path, replace(found, ended=how, reason=reason))
        except OSError as error:
            log.error("cannot note that run %d %s: %s; make room", found.run, how, error)
            return  # it is looked at again
        if how == COMPLETED:
            log.info("run %d is complete; start another with `smpcfl run`", found.run)
        elif how == STOPPED:
            log.info("run %d was stopped; start another with `smpcfl run`", found.run)
        else:
            log.error(
                "run %d failed; start the aggregator again to go on with it, or another run with"
                " `smpcfl run`",
                found.run,
            )

    async def _settled_peers(self, stop: asyncio.Event) -> int:
        last, since, loop = -1, 0.0, asyncio.get_running_loop()
        while not stop.is_set():
            peers = len(self._directory.by_registry)
            if peers != last:
                least = self._settings.min_peers
                log.info("waiting for peers: %d of at least %d are there", peers, least)
                last, since = peers, loop.time()
            if peers >= self._settings.min_peers and loop.time() - since >= _SETTLE_S:
                return peers
            await wait_for(stop, 0.5)
        return 0
