"""`smpcfl bench`: measures cases one by one, shows and writes what was found."""

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
from .cases import CASES, SHORT, Sizes
from .measured import Measured
from .timing import machine


def bench(
    names: Sequence[str] = (),
    *,
    short: bool = False,
    json_file: Path | None = None,
    sizes: Sizes | None = None,
) -> int:
    """Measures the named cases, or all. LocalError for an unknown one, or a file that cannot be written."""
    names = _chosen(names)
    if json_file is not None:
        _check_writable(json_file)
    sizes = sizes or (SHORT if short else Sizes())
    console = Console()
    result: dict[str, Any] = {"smpcfl": __version__, "machine": machine(), "cases": {}}
    named = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
    console.print(f"smpcfl {__version__}; {named}", highlight=False, soft_wrap=True)
    began = perf_counter()
    with _progress(console) as progress:
        task = progress.add_task("", total=None)
        for name in names:

            def say(text: str, name: str = name) -> None:
                progress.update(task, description=f"{name}: {text}")

            found = CASES[name].measure(sizes, say)
            console.print(_table(name, found))
            result["cases"][name] = asdict(found)
    result["seconds"] = perf_counter() - began
    console.print(f"{result['seconds']:.0f} s in all", highlight=False)
    if json_file is not None:
        json_file.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        console.print(f"written: {json_file.resolve()}", soft_wrap=True, highlight=False)
    return 0


def _chosen(names: Sequence[str]) -> list[str]:
    for name in names:
        if name not in CASES:
            raise LocalError(f"case {name!r}: unknown; choose from {', '.join(CASES)}")
    return list(dict.fromkeys(names)) or list(CASES)


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


def _table(name: str, found: Measured) -> Table:
    table = Table(title=f"{name}: {found.work}", title_justify="left", caption_justify="left")
    table.add_column("")
    for column in ("median", "half of them", "here / this"):
        table.add_column(column, justify="right")
    for side in found.sides:
        table.add_row(side, found.median(side), found.half(side), found.here_to(side))
    table.caption = "; ".join(f"{side}: {text}" for side, text in found.notes.items()) or None
    return table
