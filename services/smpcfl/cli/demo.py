"""`smpcfl demo` and `smpcfl compare`."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import mean

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from .. import __version__
from ..aggregator import current_run
from ..aggregator import rounds_service as kept
from ..base.state import State
from ..protocol.errors import LocalError
from ..reports import report
from ..reports.report import RoundRecord
from .peer_logs import first_traceback
from .stack import Stack

_START_S = 120.0
_ROUND_S = 300.0


def compare(
    modes: Sequence[str], peers: int, rounds: int, seed: int, repeat: int, directory: Path
) -> int:
    """Runs each mode `repeat` times, shows a table, leaves report.json and report.html."""
    for module in ("torch", "mlxtend"):
        if find_spec(module) is None:
            raise LocalError(f"the bundled task needs {module}: pip install 'smpcfl[demo]'")
    _check_report(directory)
    console = Console()
    console.print(
        f"{peers} peers, {rounds} rounds, modes {', '.join(modes)}; everything on 127.0.0.1, with"
        " certificates made for this run"
    )
    first: dict[str, list[RoundRecord]] = {}
    finals: dict[str, list[float]] = {mode: [] for mode in modes}
    with _progress(console) as progress:
        for offset in range(repeat):
            for mode in modes:
                records = _train(progress, console, mode, peers, rounds, seed + offset)
                first.setdefault(mode, records)
                finals[mode].append(records[-1].accuracy or 0.0)
    console.print(report.table(first))
    if repeat > 1:
        for mode, values in finals.items():
            shown = ", ".join(f"{value:.3f}" for value in values)
            console.print(f"{mode}: final accuracy {mean(values):.4f} (mean of {shown})")
    meta = _meta(peers, rounds, seed, repeat, finals)
    json_path, html_path = report.write(directory, first, meta)
    console.print(f"report: {html_path.resolve()}\n        {json_path.resolve()}", soft_wrap=True)
    for mode, records in first.items():
        if all(record.outcome == "void" for record in records):
            raise LocalError(f"{mode}: no round completed; the last one: {records[-1].reason}")
    return 0


def _train(
    progress: Progress, console: Console, mode: str, peers: int, rounds: int, seed: int
) -> list[RoundRecord]:
    folder = Path(tempfile.mkdtemp(prefix="smpcfl-"))
    task = progress.add_task(f"{mode}: starting {peers} peers", total=rounds)
    shown = 0

    def follow() -> bool:
        nonlocal shown
        # First how the run stands, then its records: none of the last ones is missed.
        run = current_run.load(State(stack.records.parent).training)
        records = kept.read(stack.records)
        for record in records[shown:]:
            shown += 1
            progress.update(task, completed=shown, description=f"{mode}: training")
            console.print(report.line(record, rounds), highlight=False)
        if shown < rounds and run is not None and run.ended:
            raise LocalError(f"the run {run.ended} after {shown} of {rounds} rounds: {run.reason}")
        return shown >= rounds

    try:
        with Stack(folder, mode, peers, rounds, seed) as stack:
            stack.wait(lambda: follow() or shown > 0, _START_S + _ROUND_S, "the first round")
            stack.wait(follow, _ROUND_S * rounds, "training")
            progress.update(task, description=f"{mode}: done")
            records = kept.read(stack.records)[:rounds]
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
    peers: int, rounds: int, seed: int, repeat: int, finals: dict[str, list[float]]
) -> dict[str, object]:
    return {
        "peers": peers,
        "rounds": rounds,
        "seed": seed,
        "repeat": repeat,
        "final_accuracy": finals,
        "smpcfl": __version__,
        "flwr": version("flwr"),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }
