"""`smpcfl run`: starts a training run on a running stack, and shows its rounds as they complete."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from ..aggregator import current_run, rounds_service
from ..aggregator.current_run import COMPLETED, STOPPED, Training
from ..aggregator.flower_runs import Runs
from ..aggregator.run_keeper import run_config
from ..base import files
from ..base.config import Settings
from ..base.state import State
from ..daemons.bundled import BUNDLED
from ..protocol.errors import LocalError
from ..reports.report import line
from .app_config import app_config

_POLL_S = 1.0
_POLLS = 20
_ROUNDS = 5


async def run_and_follow(
    settings: Settings, number: int | None, seed: int | None, app: Path | None
) -> int:
    """Exit code 0 once all rounds are done; LocalError if the run failed. Ctrl-C leaves it going.

    `number` of rounds, `seed`: None leaves it to the settings, or to an `app`'s own configuration.
    """
    path = State(settings.state).records
    if not State(settings.state).superlink.exists():
        raise LocalError(
            f"no aggregator keeps its state in {settings.state}: run this where `smpcfl aggregator`"
            " runs (docker compose exec aggregator smpcfl run), or give --state"
        )
    if app is None:
        number = _ROUNDS if number is None else number
        seeded = settings if seed is None else replace(settings, seed=seed)
        wanted = Training(str(BUNDLED), run_config(seeded, number, settings.min_peers))
    else:
        from ..daemons.allowed_apps import hash_of  # takes much of Flower with it

        wanted = Training(str(app.resolve()), app_config(app, number, seed))
        print(f"app {hash_of(app)}: peers run it if their SMPCFL_APPS allows it", flush=True)
    files.check(settings.state, files.AGGREGATOR_BYTES)
    runs = Runs(settings.state, settings.superlink_port)
    current = await _last_one(runs, settings)
    if current is not None:
        wanted = replace(wanted, first=current.first)
    await _submit(runs, settings, wanted)
    print(f"{wanted} is submitted", flush=True)
    shown = 0
    while True:
        # First how it stands, then its records: none of the last ones is missed.
        current = current_run.load(State(settings.state).training)
        records = [record for record in rounds_service.read(path) if record.run == wanted.run]
        for record in records[shown:]:
            print(line(record, number), flush=True)
        shown = len(records)
        if current is None or current.run != wanted.run:
            raise LocalError(f"run {wanted.run} was given up for another")
        if current.ended == COMPLETED:
            return 0
        if current.ended:
            raise LocalError(f"run {wanted.run} {current.ended}: {current.reason}")
        await asyncio.sleep(_POLL_S)


async def _last_one(runs: Runs, settings: Settings) -> Training | None:
    """The last run, which is over; LocalError if it still goes on.

    After its last round it takes Flower and the aggregator some seconds to end it.
    """
    for _ in range(_POLLS):
        active = await runs.active()
        current = current_run.load(State(settings.state).training)
        if not active and (current is None or current.ended):
            return current
        records = rounds_service.read(State(settings.state).records)
        if current is None or not records:
            break
        last = (current.run, current.config.get("num-rounds"))
        if (records[-1].run, records[-1].round) != last:
            break
        await asyncio.sleep(_POLL_S)
    busy = f"run {current.run}" if current is not None else "a run"
    raise LocalError(f"{busy} is still going, and peers take part in one at a time")


async def _submit(runs: Runs, settings: Settings, wanted: Training) -> None:
    path = State(settings.state).training
    try:
        await current_run.submit(runs, path, wanted)
    except BaseException:
        current_run.save(path, replace(wanted, ended=STOPPED, reason="it was not submitted"))
        raise
