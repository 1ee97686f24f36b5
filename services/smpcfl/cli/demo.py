"""`smpcfl demo` and `smpcfl compare`: the bundled app, or one of the user's own."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import mean

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from .. import __version__
from ..aggregator import rounds_service as kept
from ..aggregator import submission
from ..aggregator.flower_runs import Runs
from ..base.config import Settings
from ..base.state import State
from ..daemons.bundled import BUNDLED
from ..protocol.errors import LocalError
from ..reports import comparison
from ..reports.html import decimal
from ..reports.record import RoundRecord, line
from ..runs import current_run
from ..runs.current_run import COMPLETED, CurrentRun
from .app_config import app_config, declared, rounds_of, seed_of
from .peer_logs import first_traceback
from .stack import Stack

_START_S = 120.0
_ROUND_S = 300.0
_OWN_ROUND_S = 3600.0  # what somebody's own training takes is not ours to know
_ROUNDS, _SEED = 5, 1  # of the bundled app


@dataclass(frozen=True)
class Wanted:
    """What is to be trained. `app`: None is the bundled one; `rounds`, `seed`: None is what the app declares.

    `node_config` is for all peers, in the syntax of `smpcfl peer --node-config`.
    """

    app: Path | None = None
    peers: int = 5
    rounds: int | None = None
    seed: int | None = None
    node_config: str = ""

    def config(self, offset: int) -> dict[str, int]:
        """The run's configuration where it is not the app's own, with a seed `offset` further on.

        Its rounds are there in any case, if the app declares them: so it is seen when the last one is over.
        """
        if self.app is None:
            return {
                "num-rounds": _ROUNDS if self.rounds is None else self.rounds,
                "seed": (_SEED if self.seed is None else self.seed) + offset,
                "min-peers": self.peers,
                "expected-peers": self.peers,
            }
        own = declared(self.app)
        rounds = rounds_of(own) if self.rounds is None else self.rounds
        seed = seed_of(own) if self.seed is None and offset else self.seed
        return app_config(self.app, rounds, None if seed is None else seed + offset)

    @property
    def number(self) -> int | None:
        """Rounds of a run; None if the app does not say."""
        own = declared(self.app) if self.app is not None else {}
        return rounds_of({**own, **self.config(0)})


def compare(modes: Sequence[str], wanted: Wanted, repeat: int, directory: Path) -> int:
    """Runs each mode `repeat` times, shows a table, leaves report.json and report.html."""
    apps = _allowed(wanted)
    number = wanted.number
    _check_report(directory)
    console = Console()
    rounds = f"{number} rounds, " if number is not None else ""
    console.print(
        f"{wanted.peers} peers, {rounds}modes {', '.join(modes)}; everything on 127.0.0.1, with"
        " certificates made for this run"
    )
    first: dict[str, list[RoundRecord]] = {}
    finals: dict[str, list[float | None]] = {mode: [] for mode in modes}
    with _progress(console) as progress:
        for offset in range(repeat):
            for mode in modes:
                results = None if offset else directory / mode
                records = _train(progress, console, mode, wanted, offset, apps, results)
                first.setdefault(mode, records)
                finals[mode].append(comparison.final(records, "accuracy"))
    console.print(comparison.table(first))
    if repeat > 1:
        for mode, values in finals.items():
            found = [value for value in values if value is not None]
            shown = ", ".join(map(decimal, values))
            average = f"{mean(found):.4f}" if found else decimal(None)
            console.print(f"{mode}: final accuracy {average} (mean of {shown})")
    json_path, html_path = comparison.write(directory, first, _meta(wanted, number, repeat, finals))
    console.print(f"report: {html_path.resolve()}\n        {json_path.resolve()}", soft_wrap=True)
    for mode in first:
        if (saved := directory / mode).is_dir():
            console.print(f"saved by the app in {mode}: {saved.resolve()}", soft_wrap=True)
    for mode, records in first.items():
        if all(record.outcome == "void" for record in records):
            raise LocalError(f"{mode}: no round completed; the last one: {records[-1].reason}")
    return 0


def _allowed(wanted: Wanted) -> str:
    """For the peers' `apps`. LocalError for what cannot be run, before anything is started."""
    Settings(node_config=wanted.node_config)
    if wanted.app is not None:
        from ..daemons.allowed_apps import hash_of  # takes much of Flower with it

        wanted.config(0)
        return hash_of(wanted.app)
    for module in ("torch", "mlxtend"):
        if find_spec(module) is None:
            raise LocalError(f"the bundled task needs {module}: pip install 'smpcfl[demo]'")
    return Stack.apps


def _train(
    progress: Progress,
    console: Console,
    mode: str,
    wanted: Wanted,
    offset: int,
    apps: str,
    results: Path | None,
) -> list[RoundRecord]:
    """The records of one run. What its ServerApp saved goes to the folder `results`."""
    folder = Path(tempfile.mkdtemp(prefix="smpcfl-"))
    number = wanted.number
    task = progress.add_task(f"{mode}: starting {wanted.peers} peers", total=number)
    shown, over = 0, False

    def follow() -> None:
        nonlocal shown, over
        # First how the run stands, then its records: none of the last ones is missed.
        run = current_run.load(stack.aggregator.current_run)
        records = kept.read(stack.aggregator.records)
        for record in records[shown:]:
            shown += 1
            progress.update(task, completed=shown, description=f"{mode}: training")
            console.print(line(record, number), highlight=False, soft_wrap=True)
        if wanted.app is None and number is not None and shown >= number:
            over = True  # it saves nothing that would have to be waited for
        elif run is not None and run.ended:
            over = True
            if run.ended != COMPLETED:
                rounds = f"{shown} of {number}" if number is not None else f"{shown}"
                raise LocalError(f"the run {run.ended} after {rounds} rounds: {run.reason}")
            if not shown:
                raise LocalError(
                    "the app ended without a round that was reported: its ServerApp has to train with"
                    " smpcfl.flower.SecureStrategy (docs/your-app.md)"
                )

    def goes_on(count: int) -> bool:
        follow()
        return over or shown > count

    try:
        with Stack(folder, mode, wanted.peers, 0, 0, apps, wanted.node_config) as stack:
            stack.wait(stack.answers, _START_S, "the start of the SuperLink")
            _submit(stack, wanted, offset)
            while not over:
                count = shown
                seconds = _ROUND_S if wanted.app is None else _OWN_ROUND_S
                seconds += 0.0 if count else _START_S
                stack.wait(lambda count=count: goes_on(count), seconds, f"round {count + 1}")  # type: ignore[misc]
            progress.update(task, description=f"{mode}: done")
            records = kept.read(stack.aggregator.records)[:number]
        _save(State(folder / "aggregator").results, results)
        if all(record.outcome == "void" for record in records):
            console.print(first_traceback(folder), highlight=False, markup=False, soft_wrap=True)
        return records
    except LocalError as error:
        kept_at = Path(tempfile.gettempdir()) / f"smpcfl-logs-{folder.name}"
        kept_at.mkdir(exist_ok=True)
        for path in [*folder.glob("*.log"), *folder.glob("*/log/*.log")]:
            shutil.copy(path, kept_at / f"{path.parent.parent.name}-{path.name}")
        why = (str(error), first_traceback(folder), f"all logs: {kept_at}")
        raise LocalError("\n".join(filter(None, why))) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _submit(stack: Stack, wanted: Wanted, offset: int) -> None:
    app = BUNDLED if wanted.app is None else wanted.app.resolve()
    runs = Runs(stack.aggregator.path, stack.superlink_port)
    run = CurrentRun(str(app), wanted.config(offset))
    asyncio.run(submission.submit(runs, stack.aggregator.current_run, run))


def _save(found: Path, results: Path | None) -> None:
    """Unless the app saved nothing."""
    if results is not None and any(found.glob("*")):
        shutil.copytree(found, results, dirs_exist_ok=True)


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} rounds"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def _check_report(directory: Path) -> None:
    """Before minutes of training, not after."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise LocalError(
            f"cannot write the report to {directory} ({error.strerror}): choose another with --report"
        ) from error


def _meta(
    wanted: Wanted, number: int | None, repeat: int, finals: dict[str, list[float | None]]
) -> dict[str, object]:
    own = declared(wanted.app) if wanted.app is not None else {}
    app = wanted.app.resolve().name if wanted.app is not None else "bundled"
    return {
        "app": app,
        "peers": wanted.peers,
        "rounds": number,
        "seed": seed_of({**own, **wanted.config(0)}),
        "repeat": repeat,
        "final_accuracy": finals,
        "smpcfl": __version__,
        "flwr": version("flwr"),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }
