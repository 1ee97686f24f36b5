"""`smpcfl report FILE...`: runs made at different times, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from ..protocol.errors import LocalError
from ..reports import comparison, report
from .demo import check_report, typed, write_report


def show(files: Sequence[Path], directory: Path) -> int:
    """Shows a table, leaves report.json and report.html in `directory`. LocalError for what is no report."""
    named = _names(files)
    found = {name: report.load(path) for name, path in named.items()}
    for name, path in named.items():
        if path.parent == directory.resolve():
            raise LocalError(
                f"{directory} has the report {name}: choose another folder with --report"
            )
    check_report(directory)
    whole = report.side_by_side(found)
    whole = replace(whole, meta={**whole.meta, "command": typed()})
    console = Console()
    console.print(comparison.table(whole.modes))
    write_report(console, directory, whole)
    return 0


def _names(files: Sequence[Path]) -> dict[str, Path]:
    """Each file by the shortest end of its path that no other has. LocalError for one given twice."""
    paths = [(path / "report.json" if path.is_dir() else path).resolve() for path in files]
    if len(set(paths)) < len(paths):
        raise LocalError("one report is given twice")
    # A report is named by its folder, a file of another name by itself.
    parts = [
        path.parent.parts if path.name == "report.json" else (*path.parent.parts, path.stem)
        for path in paths
    ]
    longest = max(map(len, parts))
    for depth in range(1, longest + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return dict(zip(names, paths, strict=True))
    return dict(zip(map(str, paths), paths, strict=True))
