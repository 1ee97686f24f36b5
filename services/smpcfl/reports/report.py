"""A report's numbers: report.json, written, and read again by `smpcfl report`.

report.schema.json beside this file has its keys, types and units (JSON Schema, draft 2020-12).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..protocol.errors import LocalError
from ..protocol.ticket import MODES
from .pictures import Picture
from .record import RoundRecord

SCHEMA = 1
# As keys of report.json, where they differ from a record's.
_NAMES = {"seconds": "round_seconds"}


@dataclass(frozen=True)
class Report:
    """Runs by name: the mode, or where there are several of one, the mode and where it comes from."""

    modes: Mapping[str, Sequence[RoundRecord]]
    meta: Mapping[str, Any] = field(default_factory=dict)
    pictures: Mapping[str, Sequence[Picture]] = field(default_factory=dict)

    def to_json(self) -> str:
        """Each member of a mode is a list with one entry a round, but `pictures`."""
        modes: dict[str, dict[str, Any]] = {}
        for name, records in self.modes.items():
            rows = [record.to_members() for record in records]
            columns = {
                _NAMES.get(key, key): [row[key] for row in rows]
                for key in RoundRecord.__dataclass_fields__
            }
            pictures = [asdict(picture) for picture in self.pictures.get(name, ())]
            modes[name] = {**columns, "pictures": pictures}
        whole = {"schema": SCHEMA, "meta": dict(self.meta), "modes": modes}
        return json.dumps(whole, indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Report:
        """The inverse of `to_json`. ValueError says what is wrong."""
        try:
            whole = json.loads(text, parse_constant=_no_number)
        except RecursionError:
            raise ValueError("a report is not nested like that") from None
        if not isinstance(whole, dict) or not isinstance(whole.get("modes"), dict):
            raise ValueError("it has no modes")
        if whole.get("schema") != SCHEMA:
            raise ValueError(
                f"its schema is {whole.get('schema', 'of before schemas')}, and this smpcfl reads"
                f" {SCHEMA}: run it with the version that wrote it"
            )
        modes, pictures = {}, {}
        for name, columns in whole["modes"].items():
            if not isinstance(columns, dict):
                raise ValueError(f"mode {name!r} is no object")
            shown = columns.pop("pictures", [])
            if not isinstance(shown, list):
                raise ValueError(f"mode {name!r}: 'pictures' is no list")
            modes[name] = _records(name, columns)
            pictures[name] = [Picture.from_members(item) for item in shown]
        meta = whole.get("meta")
        return cls(modes, meta if isinstance(meta, dict) else {}, pictures)


def _records(name: str, columns: Mapping[str, Any]) -> list[RoundRecord]:
    lengths = {len(column) if isinstance(column, list) else -1 for column in columns.values()}
    if len(lengths) > 1 or -1 in lengths:
        raise ValueError(f"mode {name!r}: not every member is a list with one entry a round")
    names = {shown: key for key, shown in _NAMES.items()}
    keys = [names.get(shown, shown) for shown in columns]
    rows = zip(*columns.values(), strict=True)
    records = [RoundRecord.from_members(dict(zip(keys, row, strict=True))) for row in rows]
    if unknown := {record.mode for record in records} - MODES.keys():
        raise ValueError(f"unknown mode {min(unknown)!r}")
    return records


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def load(path: Path) -> Report:
    """LocalError, with the file's name, for one that cannot be read or is no report."""
    file = path / "report.json" if path.is_dir() else path
    try:
        return Report.from_json(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise LocalError(f"{file} is no report.json of smpcfl: {why}") from error


def side_by_side(reports: Mapping[str, Report]) -> Report:
    """Several reports as one; a mode that is in more than one of them gets its report's name as well."""
    modes: dict[str, Sequence[RoundRecord]] = {}
    pictures: dict[str, Sequence[Picture]] = {}
    found = [mode for report in reports.values() for mode in report.modes]
    for name, report in reports.items():
        for mode, records in report.modes.items():
            shown = mode if found.count(mode) == 1 else f"{mode} ({name})"
            modes[shown] = records
            pictures[shown] = report.pictures.get(mode, ())
    keys = dict.fromkeys(key for report in reports.values() for key in report.meta)
    meta = {}
    for key in keys:
        values = {name: report.meta.get(key) for name, report in reports.items()}
        same = len({json.dumps(value, sort_keys=True) for value in values.values()}) == 1
        meta[key] = next(iter(values.values())) if same else values
    return Report(modes, meta, pictures)
