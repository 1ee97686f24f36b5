"""`smpcfl run`: starts a training run on a running stack, and shows its rounds as they complete."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ..config import Settings
from ..protocol.errors import LocalError
from ..report import line
from . import rounds
from .main import run_config
from .runs import APP, Runs

_POLL_S = 1.0
_STATUS_EVERY = 20  # Flower's command line takes more than a second of processor time


async def run_and_follow(settings: Settings, number: int, app: Path | None) -> int:
    """Exit code 0 once all rounds are done, 1 if the run failed. Ctrl-C leaves the run going."""
    path = rounds.records_path(settings.state)
    if not (settings.state / "superlink.db").exists():
        raise LocalError(
            f"no aggregator keeps its state in {settings.state}: run this where `smpcfl aggregator`"
            " runs (docker compose exec aggregator smpcfl run), or give --state"
        )
    runs = Runs(settings.state, settings.superlink_port)
    if (busy := await runs.active()) is not None:
        raise LocalError(f"run {busy} is still going, and peers take part in one at a time")
    before = len(rounds.read(path))
    config = run_config(settings, number, settings.min_peers) if app is None else {}
    run_id = await runs.start(app or APP, config)
    print(f"Flower run {run_id} is submitted: {number} rounds", flush=True)
    shown, polls = 0, 0
    while True:
        for record in rounds.read(path)[before + shown :]:
            shown += 1
            print(line(record, number), flush=True)
        polls += 1
        if polls % _STATUS_EVERY == 0 or shown >= number:
            status = await runs.status(run_id)
            if status == "finished:completed":
                for record in rounds.read(path)[before + shown :]:
                    print(line(record, number), flush=True)
                return 0
            if status.startswith("finished"):
                raise LocalError(f"run {run_id}: {status}\n{await runs.last_words(run_id)}")
        await asyncio.sleep(_POLL_S)
