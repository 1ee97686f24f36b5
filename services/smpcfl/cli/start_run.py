"""`smpcfl run`: starts a training run on a running stack, and shows it until it ends."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..aggregator import known_apps, rounds_service, submission
from ..aggregator.flower_runs import Runs
from ..aggregator.run_keeper import run_config
from ..base import files
from ..base.config import Settings
from ..base.state import State
from ..daemons.bundled import BUNDLED
from ..protocol.errors import LocalError
from ..runs import current_run
from ..runs.current_run import ROUNDS_KEYS, STOPPED, CurrentRun
from .app_config import app_config, declared
from .follow import Follower, result
from .list_runs import at_the_aggregator, progress, stop

_POLL_S = 1.0
_POLLS = 20
_ROUNDS = 5
_INTERRUPTED = 130
_PROJECT = "pyproject.toml"


class Started:
    """One `smpcfl run`. `wanted` is the run, once it is being submitted; `submitted`: Flower has it.

    `ask`: whether to stop it, on a terminal; None elsewhere.
    """

    def __init__(self, settings: Settings, ask: Callable[[str], str] | None) -> None:
        self._settings = settings
        self._state = State(settings.state)
        self._runs = at_the_aggregator(settings)
        self._ask = ask
        self.wanted: CurrentRun | None = None
        self.submitted = False

    async def run(self, number: int | None, seed: int | None, app: Path | None) -> int:
        """Exit code 0 if a round was completed. LocalError, with the reason, if the run ended otherwise.

        `number` of rounds, `seed`: None leaves it to the settings, or to an `app`'s own configuration.
        """
        settings, state = self._settings, self._state
        if app is None:
            number = _ROUNDS if number is None else number
            seeded = settings if seed is None else replace(settings, seed=seed)
            wanted = CurrentRun(str(BUNDLED), run_config(seeded, number, settings.min_peers))
        else:
            config = app_config(app, number, seed)
            wanted = CurrentRun(str(app.resolve()), {**_rounds(declared(app)), **config})
            _show_app(app, state.apps)
        files.check(settings.state, files.AGGREGATOR_BYTES)
        last = await _last_one(self._runs, settings)
        if last is not None:
            wanted = replace(wanted, first=last.first)
        self.wanted = wanted
        await _submit(self._runs, settings, wanted)
        self.submitted = True
        _say(f"{wanted} is submitted")
        follower = Follower(self._runs, settings.state, _write, _say, colour=sys.stdout.isatty())
        over = await follower.to_the_end(wanted.run)
        print(result(over, rounds_service.read(state.records), settings.mode), flush=True)
        return 0

    async def interrupted(self) -> int:
        """After Ctrl-C: stops the run if that is wanted. The exit code."""
        if self.wanted is None:
            return _INTERRUPTED
        run = self.wanted.run
        if not self.submitted:
            # None was going on before, so what is there is ours.
            for flower_run in await self._runs.active():
                await self._runs.stop(flower_run)
            _say(f"run {run} was not started")
        elif self._ask is not None and self._ask(f"\nstop run {run}? [y/N] ").lower() in (
            "y",
            "yes",
        ):
            await stop(self._settings, str(run))
        else:
            _say(f"run {run} goes on: `smpcfl runs` shows how far it is, `smpcfl stop` stops it")
        return _INTERRUPTED


def run_and_follow(
    settings: Settings, number: int | None, seed: int | None, app: Path | None
) -> int:
    """See `Started.run`. Ctrl-C offers to stop the run, and leaves it going where nobody can be asked."""
    on_terminal = sys.stdin.isatty() and sys.stderr.isatty()
    started = Started(settings, _ask if on_terminal else None)
    try:
        return asyncio.run(started.run(number, seed, app))
    except KeyboardInterrupt:
        return asyncio.run(started.interrupted())


def _ask(question: str) -> str:
    print(question, end="", file=sys.stderr, flush=True)
    try:
        return sys.stdin.readline().strip()
    except KeyboardInterrupt:
        return ""


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _show_app(app: Path, kept: Path) -> None:
    """Its hash, and which of its files are others than when it was last started here."""
    from ..daemons import app_files  # takes much of Flower with it

    made = app_files.bundle_of(app)
    name, digests = app_files.name_of(made), app_files.digests(made)
    changed = app_files.changes(known_apps.load(kept).get(name, digests), digests)
    print(f"app {app_files.hash_of(made)}: peers run it if their SMPCFL_APPS allows it", flush=True)
    if changed:
        print(f"since its last run here: {', '.join(changed)}", flush=True)
    if left_out := app_files.left_out(app):
        print(
            f"not part of the app, because outside of its packages: {', '.join(left_out)}"
            " (fab-include in [tool.flwr.app] would name them)",
            flush=True,
        )
    known_apps.keep(kept, name, digests)


async def _last_one(runs: Runs, settings: Settings) -> CurrentRun | None:
    """The last run, which is over; LocalError if it still goes on.

    After its last round it takes Flower and the aggregator some seconds to end it.
    """
    for _ in range(_POLLS):
        active = await runs.active()
        current = current_run.load(State(settings.state).current_run)
        if not active and (current is None or current.ended):
            return current
        records = rounds_service.read(State(settings.state).records)
        if current is None or not records:
            break
        if (records[-1].run, records[-1].round) != (current.run, current.rounds):
            break
        await asyncio.sleep(_POLL_S)
    going = f"run {current.run}" if current is not None and not current.ended else "a run"
    done = f" ({progress(current, records)})" if current is not None and not current.ended else ""
    raise LocalError(
        f"{going} is still going{done}, and peers take part in one at a time: wait for it, or end it with"
        " `smpcfl stop`"
    )


def _rounds(declared: Mapping[str, Any]) -> dict[str, int]:
    """How many the app declares, in a form that the run keeps."""
    return {key: declared[key] for key in ROUNDS_KEYS if isinstance(declared.get(key), int)}


async def _submit(runs: Runs, settings: Settings, wanted: CurrentRun) -> None:
    path = State(settings.state).current_run
    try:
        await submission.submit(runs, path, wanted)
    except BaseException:
        current_run.save(path, replace(wanted, ended=STOPPED, reason="it was not submitted"))
        raise
