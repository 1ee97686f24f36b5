"""`smpcfl bench`: measures cases one by one, shows and writes what was found, and checks ratios."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from .. import __version__
from ..protocol.errors import LocalError
from . import check
from .cases import CASES, SHORT, Sizes
from .measured import Measured
from .timing import Say, machine


def bench(
    names: Sequence[str] = (),
    *,
    short: bool = False,
    json_file: Path | None = None,
    checked: bool = False,
    against: Path | None = None,
    sizes: Sizes | None = None,
) -> int:
    """Measures the named cases, or all; 1 if a ratio is beyond what is committed, else 0.

    `checked`: compares with the committed ratios, or those of the file `against`. LocalError for an unknown
    case, or a file that cannot be read or written.
    """
    names = _chosen(names, held=checked)
    kept = check.read(against or check.committed(short)) if checked else None
    if json_file is not None:
        _check_writable(json_file)
    sizes = sizes or (SHORT if short else Sizes())
    console = Console()
    result: dict[str, Any] = {"smpcfl": __version__, "machine": machine(), "cases": {}}
    named = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
    console.print(f"smpcfl {__version__}; {named}", highlight=False, soft_wrap=True)
    if kept is not None and kept.elsewhere:
        console.print(
            f"compared with ratios of another processor ({kept.cpu}), whose balance of AES and memory is"
            f" another: only {kept.beyond:g} times as much fails; for more take a baseline here with --json,"
            " before a change, and compare with --against",
            highlight=False,
            soft_wrap=True,
        )
    began, worse = perf_counter(), False
    with _progress(console) as progress:
        task = progress.add_task("", total=None)
        for name in names:

            def say(text: str, name: str = name) -> None:
                progress.update(task, description=f"{name}: {text}")

            found = CASES[name].measure(sizes, say)
            if kept is not None:
                found, beyond = _checked(name, sizes, found, kept, say, console)
                worse |= beyond
            else:
                _show(console, name, found)
            result["cases"][name] = asdict(found)
    result["seconds"] = perf_counter() - began
    console.print(f"{result['seconds']:.0f} s in all", highlight=False)
    if json_file is not None:
        json_file.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        console.print(f"written: {json_file.resolve()}", soft_wrap=True, highlight=False)
    if worse:
        console.print(check.REMEDY, highlight=False)
    return int(worse)


def _chosen(names: Sequence[str], *, held: bool) -> list[str]:
    known = [name for name, case in CASES.items() if case.held or not held]
    for name in names:
        if name not in known:
            what = "no ratio to check" if name in CASES else "unknown"
            raise LocalError(f"case {name!r}: {what}; choose from {', '.join(known)}")
    return list(dict.fromkeys(names)) or known


def _checked(
    name: str, sizes: Sizes, found: Measured, kept: check.Kept, say: Say, console: Console
) -> tuple[Measured, bool]:
    """The last of a few attempts, and whether even that one is beyond."""
    ratio = check.kept_ratio(kept, name, found)
    for left in reversed(range(check.ATTEMPTS)):
        again = left > 0 and check.is_beyond(found, ratio, kept.beyond)
        said = check.verdict(name, found, ratio, kept.beyond)
        console.print(f"{said}; once more" if again else said, highlight=False, soft_wrap=True)
        if not again:
            break
        found = CASES[name].measure(sizes, say)
    return found, check.is_beyond(found, ratio, kept.beyond)


def _check_writable(file: Path) -> None:
    """Before the work, not after."""
    try:
        existed = file.exists()
        file.open("a").close()
        if not existed:
            file.unlink()
    except OSError as error:
        raise LocalError(
            f"cannot write {file} ({error.strerror}): choose another file with --json"
        ) from error


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _show(console: Console, name: str, found: Measured) -> None:
    console.print(f"\n{name}: {found.work}", highlight=False, soft_wrap=True)
    rows = [
        (side, found.median(side), found.half(side), found.here_to(side)) for side in found.sides
    ]
    heads = ("", "median", "half of them", "here / this")
    table = Table()
    shown = [column for column in range(len(heads)) if any(row[column] for row in rows)]
    for column in shown:
        table.add_column(heads[column], justify="right" if column else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(row[column] for column in shown))
    console.print(table)
    for side, text in found.notes.items():
        console.print(f"{side}: {text}", highlight=False, soft_wrap=True)
