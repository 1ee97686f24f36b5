"""`smpcfl report FILE...`: runs made at different times, side by side."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ..protocol.errors import LocalError
from ..reports import comparison, report
from .demo import check_report, write_report


def show(files: Sequence[Path], directory: Path) -> int:
    """Shows a table, leaves report.json and report.html in `directory`. LocalError for what is no report."""
    found = {name: report.load(path) for name, path in _names(files).items()}
    for name, path in _names(files).items():
        if (path if path.is_dir() else path.parent).resolve() == directory.resolve():
            raise LocalError(
                f"{directory} has the report {name}: choose another folder with --report"
            )
    check_report(directory)
    whole = report.side_by_side(found)
    whole = report.with_meta(whole, {"command": shlex.join(["smpcfl", *sys.argv[1:]])})
    console = Console()
    console.print(comparison.table(whole.modes))
    write_report(console, directory, whole)
    return 0


def _names(files: Sequence[Path]) -> dict[str, Path]:
    """Each file by the shortest end of its path that no other has; LocalError for one given twice."""
    resolved = [path.resolve() for path in files]
    if len(set(resolved)) < len(resolved):
        raise LocalError("one report is given twice")
    parts = [
        (path.parent if path.name == "report.json" else path.with_suffix("")).parts
        for path in resolved
    ]
    depth = 1
    while len({part[-depth:] for part in parts}) < len(parts) and depth < max(map(len, parts)):
        depth += 1
    return {"/".join(part[-depth:]): path for part, path in zip(parts, files, strict=True)}
