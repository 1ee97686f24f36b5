"""The charts of a report, as inline SVG, each with its numbers in a table below.

A mode has one colour (of the Okabe-Ito palette), dash and marker everywhere, so none is recognised by colour
alone. So has a part of a bar its colour and its place in the legend.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from itertools import pairwise

from ..protocol.ticket import ADDITIVE, NORMAL, SEEDED
from .comparison import Runs
from .record import RoundRecord, finite

# For each name of a run, its parts by name; all runs have the same parts.
Bars = Mapping[str, Mapping[str, float]]

_STYLES = 6
_WIDTH, _HEIGHT = 480, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 12, 42


def styles(runs: Runs) -> dict[str, int]:
    """Which of the styles each run has: the first of a mode has the mode's own."""
    own = {NORMAL: 0, ADDITIVE: 1, SEEDED: 2}
    found: dict[str, int] = {}
    more = 3
    for name, records in runs.items():
        mode = records[0].mode if records else name
        style = own.pop(mode) if mode in own else more
        more += style == more
        found[name] = style % _STYLES
    return found


def key(style: int) -> str:
    """A piece of the line of a run, for legends; the name beside it is what is read out."""
    return (
        f'<svg class="key" viewBox="0 0 34 12" aria-hidden="true"><g class="mode m{style}'
        f'"><polyline points="1,6 33,6"/>{_marker(style, 17, 6, "")}</g></svg>'
    )


def line_chart(
    name: str,
    title: str,
    runs: Runs,
    value_of: Callable[[RoundRecord], float | None],
    show: Callable[[float | None], str],
) -> str:
    """One line a run, over the rounds; where a value is missing the line is broken."""
    values = {
        run: [finite(value_of(record)) for record in records] for run, records in runs.items()
    }
    numbers = {run: _numbers_of(records) for run, records in runs.items()}
    known = [value for row in values.values() for value in row if value is not None]
    if not known:
        return f"<figure><figcaption>{title}</figcaption><p>Not evaluated.</p></figure>"
    first = min(row[0] for row in numbers.values() if row)
    last = max(row[-1] for row in numbers.values() if row)
    heights = _ticks(min(known), max(known))
    low, high = heights[0], heights[-1]

    def x(number: float) -> float:
        share = (number - first) / (last - first) if last > first else 0.5
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _TOP + (high - value) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    marks = [*_grid(heights, y), *_numbers(first, last, x)]
    given = styles(runs)
    for run, row in values.items():
        points, lines = [], [""]
        for number, value, record in zip(numbers[run], row, runs[run], strict=True):
            if value is None:
                lines.append("")
                continue
            lines[-1] += f"{x(number):.1f},{y(value):.1f} "
            hint = f"{run}, round {number}: {show(value)}"
            void = record.outcome == "void"
            points.append(_marker(given[run], x(number), y(value), hint, void=void))
        marks.append(
            f'<g class="mode m{given[run]}">'
            + "".join(f'<polyline points="{line.strip()}"/>' for line in lines if line)
            + "".join(points)
            + "</g>"
        )
    lasting = {run: [value for value in row if value is not None] for run, row in values.items()}
    said = "; ".join(
        f"{run} from {show(row[0])} to {show(row[-1])} in {len(values[run])} rounds"
        for run, row in lasting.items()
        if row
    )
    void = any(record.outcome == "void" for records in runs.values() for record in records)
    legend = "".join(f"<li>{key(style)}{escape(run)}</li>" for run, style in given.items())
    legend += "<li>hollow: void round</li>" if void else ""
    by_number = {run: dict(zip(numbers[run], row, strict=True)) for run, row in values.items()}
    rows = [
        (str(n), [show(row[n]) if n in row else "" for row in by_number.values()])
        for n in sorted({n for row in numbers.values() for n in row})
    ]
    return f"""<figure><figcaption>{title}</figcaption>
<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-labelledby="{name}-t {name}-d">
<title id="{name}-t">{title} of the global model, by round</title>
<desc id="{name}-d">{escape(said)}</desc>
{"".join(marks)}</svg>
<ul class="legend">{legend}</ul>{data_table(f"{title} by round", ["round", *values], rows)}</figure>"""


def bar_chart(
    name: str, title: str, bars: Bars, show: Callable[[float], str], note: str = ""
) -> str:
    """A horizontal bar a run, cut into parts, on one linear scale. Parts that are nowhere are left out."""
    totals = {run: sum(parts.values()) for run, parts in bars.items()}
    longest = max(totals.values(), default=0)
    if not longest:
        return ""
    # Each has its colour by its place among all, shown or not.
    colours = {
        part: number
        for number, part in enumerate(dict.fromkeys(part for row in bars.values() for part in row))
    }
    parts = [part for part in colours if any(row.get(part) for row in bars.values())]
    full_width, name_width, value_width, step = 640, 110, 80, 34
    room = full_width - name_width - value_width
    marks = []
    for place, (run, row) in enumerate(bars.items()):
        top, left = place * step, float(name_width)
        shown = run if len(run) <= 15 else run[:14] + "…"
        marks.append(
            f'<text x="{name_width - 10}" y="{top + 20}" text-anchor="end">{escape(shown)}</text>'
        )
        for part in parts:
            if not (value := row.get(part, 0.0)):
                continue
            width = max(value / longest * room, 1)
            hint = escape(f"{run}, {part}: {show(value)}")
            marks.append(
                f'<rect class="bar p{colours[part]}" x="{left:.1f}" y="{top + 4}" width="{width:.1f}"'
                f' height="24"><title>{hint}</title></rect>'
            )
            left += width
        marks.append(f'<text x="{left + 8:.1f}" y="{top + 20}">{show(totals[run])}</text>')
    listed = "; ".join(
        f"{run}: " + ", ".join(f"{part} {show(row.get(part, 0.0))}" for part in parts)
        for run, row in bars.items()
    )
    legend = "".join(
        f'<li><svg class="swatch" viewBox="0 0 12 12" aria-hidden="true"><rect class="bar'
        f' p{colours[part]}" width="12" height="12"/></svg>{escape(part)}</li>'
        for part in parts
    )
    rows = [
        *((part, [show(row.get(part, 0.0)) for row in bars.values()]) for part in parts),
        ("all", [show(total) for total in totals.values()]),
    ]
    noted = f'<p class="soft">{note}</p>' if note else ""
    return f"""<figure><figcaption>{title}</figcaption>
<svg class="bars" viewBox="0 0 {full_width} {len(bars) * step}" role="img"
 aria-labelledby="{name}-t {name}-d"><title id="{name}-t">{title}</title>
<desc id="{name}-d">{escape(listed)}</desc>
{"".join(marks)}</svg>
<ul class="legend">{legend}</ul>{noted}{data_table(title, ["", *bars], rows)}</figure>"""


def data_table(title: str, head: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """The numbers of a chart, folded away until somebody wants them."""
    return (
        f"<details><summary>Data: {escape(title)}</summary>"
        f"{table(f'data of {title}', head, rows)}</details>"
    )


def table(
    label: str,
    head: Sequence[str],
    rows: Sequence[tuple[str, Sequence[str]]],
    head_html: Sequence[str] = (),
) -> str:
    """`head_html` goes before the cells of the head. Scrolls by itself where it is too wide."""
    before = [*head_html, *[""] * len(head)]
    cells = "".join(
        f'<th scope="col">{more}{escape(text)}</th>' if text else "<td></td>"
        for text, more in zip(head, before, strict=False)
    )
    body = "".join(
        f'<tr><th scope="row">{escape(label)}</th>{"".join(map(_cell, row))}</tr>'
        for label, row in rows
    )
    return (
        f'<div class="scroll" role="region" aria-label="{escape(label)}" tabindex="0"><table>'
        f"<thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(text: str) -> str:
    """A number stays on one line; a sentence would push the columns after it out of sight."""
    kind = ' class="prose"' if len(text) > 24 else ""  # longer than `999.9 kB (x1234.56)`
    return f"<td{kind}>{escape(text)}</td>"


def _grid(heights: Sequence[float], y: Callable[[float], float]) -> list[str]:
    digits = max(len(f"{value:.6g}".partition(".")[2]) for value in heights)
    return [
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(v):.1f}" y2="{y(v):.1f}"/>'
        f'<text x="{_LEFT - 8}" y="{y(v) + 4:.1f}" text-anchor="end">{v:.{digits}f}</text>'
        for v in heights
    ]


def _numbers_of(records: Sequence[RoundRecord]) -> list[int]:
    """Of the rounds; counted where they do not rise, as of several runs one after another."""
    numbers = [record.round for record in records]
    rise = all(a < b for a, b in pairwise(numbers))
    return numbers if rise else list(range(1, len(numbers) + 1))


def _numbers(first: int, last: int, x: Callable[[float], float]) -> list[str]:
    """Of the rounds, below the chart."""
    return [
        *(
            f'<text x="{x(n):.1f}" y="{_HEIGHT - _BOTTOM + 19}" text-anchor="middle">{n}</text>'
            for n in range(first, last + 1, math.ceil((last - first + 1) / 10))
        ),
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 5}" text-anchor="middle">'
        "round</text>",
    ]


def _marker(style: int, x: float, y: float, hint: str, *, void: bool = False) -> str:
    """One shape a style; hollow for a void round, whose model is the old one."""
    if style == 0:
        shape = f'circle cx="{x:.1f}" cy="{y:.1f}" r="3.5"'
    else:
        corners: Iterable[tuple[float, float]] = (
            ((-3.3, -3.3), (3.3, -3.3), (3.3, 3.3), (-3.3, 3.3)),
            ((0, -4.5), (4.2, 3.2), (-4.2, 3.2)),
            ((0, -4.8), (4.8, 0), (0, 4.8), (-4.8, 0)),
            ((-4.2, -3.2), (4.2, -3.2), (0, 4.5)),
            ((-1.6, -4.6), (1.6, -4.6), (1.6, 4.6), (-1.6, 4.6)),
        )[style - 1]
        points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
        shape = f'polygon points="{points}"'
    kind = " hollow" if void else ""
    ending = " (void)" if void else ""
    title = f"<title>{escape(hint + ending)}</title>" if hint else ""
    return f'<{shape} class="dot{kind}">{title}</{shape.split()[0]}>'


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers, three to seven, the first not above `low` and the last not below `high`."""
    span = (high - low) or abs(high)
    span = span if span > 1e-300 else 1.0
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if span / 4 <= power * m * (1 + 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]
