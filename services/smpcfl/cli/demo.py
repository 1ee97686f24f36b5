"""`smpcfl demo` and `smpcfl compare`: the bundled app, or one of the user's own."""

from __future__ import annotations

import os
import platform
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import mean

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from .. import __version__
from ..base.config import Settings
from ..protocol.errors import LocalError
from ..protocol.ticket import MODES
from ..reports import comparison
from ..reports.pictures import Picture
from ..reports.record import RoundRecord
from ..reports.report import Report
from ..reports.units import decimal
from ..reports.write import write
from .app_config import declared, seed_of
from .live_page import LivePage
from .one_run import OneRun
from .stack import Stack
from .wanted import Wanted


def compare(
    modes: Sequence[str], wanted: Wanted, repeat: int, directory: Path, *, with_page: bool = True
) -> int:
    """Runs each mode `repeat` times, shows a table, leaves report.json and report.html.

    `with_page`: a page that shows it while it goes on.
    """
    apps = allowed(wanted)
    number = wanted.number
    check_report(directory)
    console = Console()
    rounds = f"{number} rounds, " if number is not None else ""
    console.print(
        f"{wanted.peers} peers, {rounds}modes {', '.join(modes)}; everything on 127.0.0.1, with"
        " certificates made for this run"
    )
    first: dict[str, list[RoundRecord]] = {}
    pictures: dict[str, list[Picture]] = {}
    finals: dict[str, list[float | None]] = {mode: [] for mode in modes}
    with LivePage(wanted=with_page) as page:
        if page.url:
            console.print(f"live page: {page.url}", soft_wrap=True)
        with progress_bar(console) as progress:
            for offset in range(repeat):
                # What is refused is refused in a secure mode: before plain training, not after.
                for mode in sorted(modes, key=lambda mode: not MODES[mode].secure):
                    results = None if offset else directory / mode
                    run = OneRun(progress, console, mode, wanted, apps, results, page.runs)
                    records = run.train(offset)
                    first.setdefault(mode, records)
                    pictures.setdefault(mode, run.pictures)
                    finals[mode].append(comparison.final(records, "accuracy"))
        first = {mode: first[mode] for mode in modes}
        console.print(comparison.table(first))
        if repeat > 1:
            for mode, values in finals.items():
                found = [value for value in values if value is not None]
                shown = ", ".join(map(decimal, values))
                average = f"{mean(found):.4f}" if found else decimal(None)
                console.print(f"{mode}: final accuracy {average} (mean of {shown})")
        about = meta(wanted) | {"repeat": repeat, "final_accuracy": finals}
        where = write_report(console, directory, Report(first, about, pictures))
        page.runs.say(f"It is over: the report is {where.resolve()}")
    for mode in first:
        if (saved := directory / mode).is_dir():
            console.print(
                f"saved and printed by the app in {mode}: {saved.resolve()}",
                soft_wrap=True,
                markup=False,
            )
    check_trained(first)
    return 0


def allowed(wanted: Wanted) -> str:
    """For the peers' setting `apps`. LocalError for what cannot be run, before anything is started."""
    Settings(node_config=wanted.node_config)
    if wanted.app is not None:
        from ..daemons.allowed_apps import hash_of  # takes much of Flower with it

        wanted.config(0)
        return hash_of(wanted.app)
    for module in ("torch", "mlxtend"):
        if find_spec(module) is None:
            raise LocalError(f"the bundled task needs {module}: pip install 'smpcfl[demo]'")
    return Stack.apps


def progress_bar(console: Console) -> Progress:
    """Of rounds; nothing is shown where there is no terminal."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=10),
        TextColumn("{task.completed}/{task.total} rounds"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def check_report(directory: Path) -> None:
    """LocalError if no report can be written there: before minutes of training, not after."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise LocalError(
            f"cannot write the report to {directory} ({error.strerror}): choose another with --report"
        ) from error


def write_report(console: Console, directory: Path, report: Report) -> Path:
    """The page's path; says where it and its numbers are."""
    json_path, html_path = write(directory, report)
    console.print(
        f"report: {html_path.resolve()}\n        {json_path.resolve()}",
        soft_wrap=True,
        markup=False,
    )
    return html_path


def check_trained(modes: Mapping[str, list[RoundRecord]]) -> None:
    """LocalError for a mode in which no round completed."""
    for mode, records in modes.items():
        if all(record.outcome == "void" for record in records):
            raise LocalError(f"{mode}: no round completed; the last one: {records[-1].reason}")


def typed() -> str:
    """The command as it was given, to repeat it."""
    return shlex.join(["smpcfl", *sys.argv[1:]])


def meta(wanted: Wanted) -> dict[str, object]:
    """What a report says of how it came about."""
    own = declared(wanted.app) if wanted.app is not None else {}
    app = wanted.app.resolve().name if wanted.app is not None else "bundled"
    return {
        "app": app,
        "peers": wanted.peers,
        "rounds": wanted.number,
        "seed": seed_of({**own, **wanted.config(0)}),
        "smpcfl": __version__,
        "flwr": version("flwr"),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
        "command": typed(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }
