"""Runs side by side in numbers: a table for the terminal and the report, and the three that matter most."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from rich.table import Table
from rich.text import Text

from ..protocol.guarantee import guarantee
from ..protocol.ticket import MODES, NORMAL, SEEDED
from .record import RoundRecord, finite
from .units import ABSENT, byte_size, decimal

Runs = Mapping[str, Sequence[RoundRecord]]
# Names of runs, and rows of (label, one text for each run).
Comparison = tuple[list[str], list[tuple[str, list[str]]]]


@dataclass(frozen=True)
class Verdict:
    """What one secure run costs, beside a plain one if there is one. All but `mode` may be unknown."""

    mode: str
    plain: str
    """Name of the plain run; empty: there is none."""
    accuracy: float | None
    """Final accuracy, 0 to 1."""
    given_up: float | None
    """How much less than plain, 0 to 1; below 0 it is more."""
    sent: float | None
    """Bytes that one peer sends in a round."""
    sent_ratio: float | None
    """To what an update in the clear takes."""
    seconds: float | None
    """Median of a round."""
    more_seconds: float | None
    """Than plain."""


def answer(runs: Runs) -> Verdict | None:
    """Of `seeded`, or else of the one other secure mode; None where there is none with rounds.

    None, too, where there are several runs of one mode: which of them belong together is not known.
    """
    modes = [records[0].mode for records in runs.values() if records]
    secure = [name for name, records in runs.items() if records and is_secure(records)]
    if not secure or len(set(modes)) < len(modes):
        return None
    name = next((name for name in secure if runs[name][0].mode == SEEDED), secure[-1])
    plain = next((n for n, records in runs.items() if records and not is_secure(records)), "")
    mine, base = runs[name], runs.get(plain, ())
    accuracy, other = final(mine, "accuracy"), final(base, "accuracy")
    sent, clear = _sent(mine), _clear(mine, base)
    own_seconds, base_seconds = _seconds(mine), _seconds(base)
    return Verdict(
        mode=name,
        plain=plain,
        accuracy=accuracy,
        given_up=None if accuracy is None or other is None else other - accuracy,
        sent=sent,
        sent_ratio=sent / clear if sent is not None and clear else None,
        seconds=own_seconds,
        more_seconds=(
            None if own_seconds is None or base_seconds is None else own_seconds - base_seconds
        ),
    )


def is_secure(records: Sequence[RoundRecord]) -> bool:
    return bool(records) and MODES[records[0].mode].secure


def _sent(records: Sequence[RoundRecord]) -> float | None:
    return fmean(r.bytes_up + r.bytes_p2p for r in records) if records else None


def _clear(mine: Sequence[RoundRecord], base: Sequence[RoundRecord]) -> float | None:
    """What a peer sends in the clear: as it was in the plain run, or as the secure one computed it."""
    if base:
        return _sent(base)
    return max((record.plain_bytes for record in mine), default=0.0) or None


def _seconds(records: Sequence[RoundRecord]) -> float | None:
    return median(record.seconds for record in records) if records else None


def table(runs: Runs) -> Table:
    """The runs side by side, for the terminal; four of them fit 80 columns."""
    names, rows = comparison(runs)
    result = Table(
        caption="bytes: per peer and round; in brackets: relative to normal", pad_edge=False
    )
    result.add_column("")
    for name in names:
        result.add_column(Text(name), justify="right")
    for label, cells in rows:
        result.add_row(Text(label), *(Text(cell) for cell in cells))
    return result


def comparison(runs: Runs) -> Comparison:
    """The names of the runs, and rows of (label, one text for each run).

    Final values are the last known ones; the others are means over all rounds, void ones included.
    """
    normal = runs.get(NORMAL)
    rows: list[tuple[str, list[str]]] = []
    for label, value, show, relate in _ROWS:
        base = value(normal) if normal else None
        cells = []
        for name, records in runs.items():
            mine = value(records)
            cell = ABSENT if mine is None else show(mine)
            if name != NORMAL and mine is not None and base is not None:
                cell += relate(mine, base)
            cells.append(cell)
        rows.append((label, cells))
    if any(record.groups for records in runs.values() for record in records):
        rows.append(("groups complete", [_groups(records) for records in runs.values()]))
    rows.append(("who learns what", [who_learns_what(records) for records in runs.values()]))
    return list(runs), rows


def _groups(records: Sequence[RoundRecord]) -> str:
    """Over all rounds."""
    found = [group.outcome for record in records for group in record.groups]
    return f"{found.count('complete')} of {len(found)}" if found else ABSENT


def who_learns_what(records: Sequence[RoundRecord]) -> str:
    """The guarantee of the last round that began."""
    if not records:
        return ABSENT
    if not is_secure(records):
        return "the aggregator sees each update"
    last = next((record for record in reversed(records) if record.withstood is not None), None)
    if last is None or last.withstood is None:
        return "no round began"
    return guarantee(last.withstood, last.cohort, last.mode)


def final(records: Sequence[RoundRecord], key: str) -> float | None:
    """The last `accuracy` or `loss` that is known of a model; None if no round has made one."""
    complete = [record for record in records if record.outcome == "complete"]
    known = (finite(getattr(record, key)) for record in reversed(complete))
    return next((number for number in known if number is not None), None)


def _last(key: str) -> Callable[[Sequence[RoundRecord]], float | None]:
    return lambda records: final(records, key)


def _mean(key: str) -> Callable[[Sequence[RoundRecord]], float | None]:
    def value(records: Sequence[RoundRecord]) -> float | None:
        return fmean(getattr(r, key) for r in records) if records else None

    return value


def _count(outcome: str) -> Callable[[Sequence[RoundRecord]], float | None]:
    return lambda records: sum(record.outcome == outcome for record in records)


def _difference(mine: float, base: float) -> str:
    return f" ({mine - base:+.3f})"


def _ratio(mine: float, base: float) -> str:
    return f" (x{mine / base:.2f})" if base > 0 else ""


def _nothing(mine: float, base: float) -> str:
    return ""


_Row = tuple[
    str,
    Callable[[Sequence[RoundRecord]], float | None],
    Callable[[float], str],
    Callable[[float, float], str],
]
# Label, value of a run, how it is shown, and how it is related to the value of `normal`.
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
