"""The modes side by side: a table, and a report of their rounds.

`write` makes report.json (for other programs) and report.html (one file, for people).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from ..protocol.guarantee import guarantee
from ..protocol.ticket import NORMAL
from .html import ABSENT, Comparison, Series, byte_size, decimal, page
from .record import RoundRecord, finite


def write(
    directory: str | os.PathLike[str],
    modes: Mapping[str, list[RoundRecord]],
    meta: Mapping[str, Any],
) -> tuple[Path, Path]:
    """Writes report.json and report.html into `directory`, made if need be; returns their paths.

    The lists in report.json have one entry for each record, in the order given. `meta` is copied
    into it, and must be JSON; what it holds is shown in report.html too. Each file appears whole
    or not at all.
    """
    series = {mode: _series(records) for mode, records in modes.items()}
    text = json.dumps({"meta": dict(meta), "modes": series}, indent=2, allow_nan=False) + "\n"
    html = page(series, comparison(modes), meta)
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    json_path, html_path = folder / "report.json", folder / "report.html"
    _replace(json_path, text)
    _replace(html_path, html)
    return json_path, html_path


def table(modes: Mapping[str, list[RoundRecord]]) -> Table:
    """The modes side by side, for the terminal."""
    names, rows = comparison(modes)
    result = Table(caption="bytes: per peer and round; in brackets: relative to normal")
    result.add_column("")
    for name in names:
        result.add_column(Text(name), justify="right")
    for label, cells in rows:
        result.add_row(Text(label), *(Text(cell) for cell in cells))
    return result


def comparison(modes: Mapping[str, list[RoundRecord]]) -> Comparison:
    """The names of the modes, and rows of (label, one text for each mode).

    Final values are the last known ones; the others are means over all rounds, void ones included.
    """
    normal = modes.get(NORMAL)
    rows: list[tuple[str, list[str]]] = []
    for label, value, show, relate in _ROWS:
        base = value(normal) if normal else None
        cells = []
        for mode, records in modes.items():
            mine = value(records)
            cell = ABSENT if mine is None else show(mine)
            if mode != NORMAL and mine is not None and base is not None:
                cell += relate(mine, base)
            cells.append(cell)
        rows.append((label, cells))
    if any(record.groups for records in modes.values() for record in records):
        rows.append(("groups complete", [_groups(records) for records in modes.values()]))
    rows.append(("who learns what", [_guarantee(records) for records in modes.values()]))
    return list(modes), rows


def _groups(records: list[RoundRecord]) -> str:
    """Over all rounds."""
    found = [group.outcome for record in records for group in record.groups]
    return f"{found.count('complete')} of {len(found)}" if found else ABSENT


def _guarantee(records: list[RoundRecord]) -> str:
    """Of the last round."""
    if not records:
        return ABSENT
    last = records[-1]
    if last.withstood is None:
        return "the aggregator sees each update"
    return guarantee(last.withstood, last.cohort, last.mode)


def final(records: list[RoundRecord], key: str) -> float | None:
    """The last `accuracy` or `loss` that is known of a model; None if no round has made one."""
    complete = [record for record in records if record.outcome == "complete"]
    known = (finite(getattr(record, key)) for record in reversed(complete))
    return next((number for number in known if number is not None), None)


def _last(key: str) -> Callable[[list[RoundRecord]], float | None]:
    return lambda records: final(records, key)


def _mean(key: str) -> Callable[[list[RoundRecord]], float | None]:
    def value(records: list[RoundRecord]) -> float | None:
        return sum(getattr(r, key) for r in records) / len(records) if records else None

    return value


def _count(outcome: str) -> Callable[[list[RoundRecord]], float | None]:
    return lambda records: sum(record.outcome == outcome for record in records)


def _difference(mine: float, base: float) -> str:
    return f" ({mine - base:+.3f})"


def _ratio(mine: float, base: float) -> str:
    return f" (x{mine / base:.2f})" if base > 0 else ""


def _nothing(mine: float, base: float) -> str:
    return ""


_Row = tuple[
    str,
    Callable[[list[RoundRecord]], float | None],
    Callable[[float], str],
    Callable[[float, float], str],
]
# Label, value of a mode, how it is shown, and how it is related to the value of `normal`.
_ROWS: list[_Row] = [
    ("final accuracy", _last("accuracy"), decimal, _difference),
    ("final loss", _last("loss"), decimal, _difference),
    ("bytes up", _mean("bytes_up"), byte_size, _ratio),
    ("bytes down", _mean("bytes_down"), byte_size, _ratio),
    ("bytes peer to peer", _mean("bytes_p2p"), byte_size, _ratio),
    ("seconds per round", _mean("seconds"), "{:.2f} s".format, _ratio),
    ("complete rounds", _count("complete"), "{:.0f}".format, _nothing),
    ("void rounds", _count("void"), "{:.0f}".format, _nothing),
    ("dropouts per round", _mean("dropouts"), "{:.2f}".format, _nothing),
]


def _series(records: list[RoundRecord]) -> Series:
    return {
        "accuracy": [finite(record.accuracy) for record in records],
        "loss": [finite(record.loss) for record in records],
        "bytes_up": [record.bytes_up for record in records],
        "bytes_down": [record.bytes_down for record in records],
        "bytes_p2p": [record.bytes_p2p for record in records],
        "round_seconds": [record.seconds for record in records],
        "survivors": [record.survivors for record in records],
        "contributors": [record.contributors for record in records],
        "withstood": [record.withstood for record in records],
        "dropouts": [record.dropouts for record in records],
        "outcome": [record.outcome for record in records],
        "draw": [record.draw for record in records],
        "groups": [[asdict(group) for group in record.groups] for record in records],
        "suspected": [record.suspected for record in records],
    }


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
