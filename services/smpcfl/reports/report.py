"""What is kept of each round, and the report that compares the modes.

A `RoundRecord` is one round as the aggregator saw it. Services write one as a line of JSON, people
read it as `line`, and `write` turns the records of one or more modes into report.json (for other
programs) and report.html (one file, for people).
"""

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rich.table import Table
from rich.text import Text

from smpcfl.protocol.guarantee import guarantee
from smpcfl.reports.html import ABSENT, Comparison, Series, byte_size, decimal, page


@dataclass(frozen=True, kw_only=True)
class RoundRecord:
    """One round of one mode. Bytes are the mean of a peer of the cohort, as counted on the wire."""

    run: int
    round: int
    mode: str
    outcome: Literal["complete", "void"]
    reason: str = ""
    """Why the round is void; empty when it is complete."""
    cohort: int
    survivors: int
    contributors: int = 0
    """Survivors whose training succeeded, as the sum shows."""
    withstood: int | None = None
    """Peers that may collude with the aggregator and still learn the sum only; None in `normal`."""
    dropouts: int
    accuracy: float | None
    """In [0, 1], of the global model after this round, on held-out data. None: not evaluated."""
    loss: float | None
    """Of the global model after this round, on held-out data."""
    train_loss: float | None
    """Mean over the examples of the survivors, from the trailer."""
    bytes_up: float
    bytes_down: float
    bytes_p2p: float
    seconds: float
    phase_seconds: dict[str, float]

    def to_json(self) -> str:
        """One JSON object on one line. JSON has no NaN: an accuracy or a loss like that is null."""
        return json.dumps(self.to_members(), allow_nan=False)

    def to_members(self) -> dict[str, Any]:
        """By name. An accuracy or a loss that is NaN or infinite is None."""
        members = asdict(self)
        for key in ("accuracy", "loss", "train_loss"):
            members[key] = _finite(members[key])
        return members

    @classmethod
    def from_json(cls, text: str) -> "RoundRecord":
        """The inverse of `to_json`. ValueError, naming the key: unknown, missing or wrong type."""
        try:
            members = json.loads(text)
        except RecursionError:
            raise ValueError("a round record is not nested like that") from None
        if not isinstance(members, dict):
            raise ValueError("a round record must be a JSON object")
        return cls.from_members(members)

    @classmethod
    def from_members(cls, members: Mapping[str, object]) -> "RoundRecord":
        """The inverse of `to_members`. ValueError, naming the key: unknown, missing or wrong type."""
        if unknown := sorted(members.keys() - _READERS.keys()):
            raise ValueError(f"round record: unknown key {unknown[0]!r}")
        if missing := sorted(_READERS.keys() - members.keys() - _OPTIONAL):
            raise ValueError(f"round record: missing key {missing[0]!r}")
        read: dict[str, Any] = {}
        for key, value in members.items():
            try:
                read[key] = _READERS[key](value)
            except TypeError as error:
                raise ValueError(f"round record: {key!r} must be {error}") from None
        return cls(**read)


def line(record: RoundRecord, rounds: int | None = None) -> str:
    """The one line of the log for a round; `rounds` is how many there are to be, if known."""
    number = str(record.round)
    if rounds is not None:
        number = f"{record.round:>{len(str(rounds))}}/{rounds}"
    parts = [f"round {number}", f"{record.mode:<8}"]
    if record.outcome == "void":
        # A reason may quote what a peer sent; it must not break the line or drive the terminal.
        clean = "".join(c if c.isprintable() else " " for c in record.reason)
        parts.append(f"void: {' '.join(clean.split()) or 'no reason given'}")
    parts.append(f"survivors {record.survivors}/{record.cohort}")
    if record.outcome == "complete" and record.contributors < record.survivors:
        parts.append(f"training failed on {record.survivors - record.contributors}")
    parts += [
        f"accuracy {decimal(record.accuracy)}",
        f"loss {decimal(record.loss)}",
        f"up {byte_size(record.bytes_up)}",
        f"p2p {byte_size(record.bytes_p2p)}",
        f"{record.seconds:.1f} s",
    ]
    return "  ".join(parts)


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
    normal = modes.get("normal")
    rows: list[tuple[str, list[str]]] = []
    for label, value, show, relate in _ROWS:
        base = value(normal) if normal else None
        cells = []
        for mode, records in modes.items():
            mine = value(records)
            cell = ABSENT if mine is None else show(mine)
            if mode != "normal" and mine is not None and base is not None:
                cell += relate(mine, base)
            cells.append(cell)
        rows.append((label, cells))
    rows.append(("who learns what", [_guarantee(records) for records in modes.values()]))
    return list(modes), rows


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
    known = (_finite(getattr(record, key)) for record in reversed(complete))
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
        "accuracy": [_finite(record.accuracy) for record in records],
        "loss": [_finite(record.loss) for record in records],
        "bytes_up": [record.bytes_up for record in records],
        "bytes_down": [record.bytes_down for record in records],
        "bytes_p2p": [record.bytes_p2p for record in records],
        "round_seconds": [record.seconds for record in records],
        "survivors": [record.survivors for record in records],
        "contributors": [record.contributors for record in records],
        "withstood": [record.withstood for record in records],
        "dropouts": [record.dropouts for record in records],
        "outcome": [record.outcome for record in records],
    }


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


# One reader for each type; a TypeError says what was expected.


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a string")
    return value


def _outcome(value: object) -> str:
    if value not in ("complete", "void"):
        raise TypeError("'complete' or 'void'")
    return str(value)


def _natural(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError("a whole number from 0 up")
    return value


def _natural_or_none(value: object) -> int | None:
    return None if value is None else _natural(value)


def _number(value: object) -> float:
    # The bound keeps out NaN, infinity (1e999 reads as that) and integers that no float can hold.
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < 1e300:
        raise TypeError("a finite number")
    return float(value)


def _amount(value: object) -> float:
    if (number := _number(value)) < 0:
        raise TypeError("a number from 0 up")
    return number


def _number_or_none(value: object) -> float | None:
    return None if value is None else _number(value)


def _phases(value: object) -> dict[str, float]:
    if not isinstance(value, dict):
        raise TypeError("an object of numbers")
    return {phase: _amount(seconds) for phase, seconds in value.items()}


_OPTIONAL = {"reason", "contributors", "withstood"}
_READERS: dict[str, Callable[[object], object]] = {
    "run": _natural,
    "round": _natural,
    "mode": _text,
    "outcome": _outcome,
    "reason": _text,
    "cohort": _natural,
    "survivors": _natural,
    "contributors": _natural,
    "withstood": _natural_or_none,
    "dropouts": _natural,
    "accuracy": _number_or_none,
    "loss": _number_or_none,
    "train_loss": _number_or_none,
    "bytes_up": _amount,
    "bytes_down": _amount,
    "bytes_p2p": _amount,
    "seconds": _amount,
    "phase_seconds": _phases,
}
