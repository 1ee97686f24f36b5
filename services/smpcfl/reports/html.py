"""report.html: one file that needs nothing else, for light and dark, with or without colour.

Charts are inline SVG. A mode has a colour (of the Okabe-Ito palette), a dash and a marker, each of
its own, so none is recognised by colour alone; all numbers stand in tables as well.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from html import escape
from typing import Any

from ..protocol.ticket import NORMAL

# The lists of one mode in report.json, by key; and names of modes with rows of (label, cells).
Series = dict[str, list[Any]]
Comparison = tuple[list[str], list[tuple[str, list[str]]]]

ABSENT = "-"

_CHANNELS = {"bytes_up": "up", "bytes_down": "down", "bytes_p2p": "peer to peer"}
_LONGEST_NUMBER = 24  # characters: `999.9 kB (x1234.56)`
_STYLES = 4
_WIDTH, _HEIGHT = 480, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 12, 42


def byte_size(count: float) -> str:
    """A number of bytes to read, in powers of 1000: `0 B`, `5.9 kB`, `1.6 MB`."""
    units = ["TB", "GB", "MB", "kB", "B"]
    # Not 1000: 999.96 kB would be shown as 1000.0 kB.
    while count >= 999.95 and len(units) > 1:
        units.pop()
        count /= 1000
    return f"{count:.0f} B" if units[-1] == "B" else f"{count:.1f} {units[-1]}"


def decimal(value: float | None) -> str:
    """Three digits after the point, or a dash for what is not known."""
    return ABSENT if value is None else f"{value:.3f}"


def page(modes: Mapping[str, Series], comparison: Comparison, meta: Mapping[str, Any]) -> str:
    """The whole document. All text that comes in is escaped."""
    facts = "".join(
        f"<div><dt>{escape(_title(key))}</dt><dd>{escape(_plain(value))}</dd></div>"
        for key, value in meta.items()
    )
    details = "".join(_rounds_table(mode, series) for mode, series in modes.items())
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>smpcfl: report of {escape(", ".join(modes))}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>Modes of aggregation, compared</h1>
<p class="lede">Accuracy and loss are of the global model, on data that no peer trained on.
Bytes are counted on the wire, as the mean of one peer in one round.</p>
{f"<dl>{facts}</dl>" if facts else ""}
<section aria-labelledby="side"><h2 id="side">Side by side</h2>
{_comparison_table(comparison)}</section>
<section aria-labelledby="rounds"><h2 id="rounds">Round by round</h2>
<div class="pair">
{_line_chart("accuracy", "Accuracy", modes)}
{_line_chart("loss", "Loss", modes)}
</div></section>
<section aria-labelledby="bytes"><h2 id="bytes">Bytes of one peer in one round</h2>
{_bar_chart(modes)}</section>
<section aria-labelledby="numbers"><h2 id="numbers">All numbers</h2>
{details}</section>
</main>
</body>
</html>
"""


def _title(key: object) -> str:
    return str(key).replace("_", " ")


def _plain(value: object) -> str:
    """A value of JSON as one would write it: `normal 0.913, 0.915; seeded 0.910`."""
    if isinstance(value, Mapping):
        return "; ".join(f"{key} {_plain(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    if value is None or isinstance(value, float):
        return decimal(value)
    return value if isinstance(value, str) else json.dumps(value)


def _comparison_table(comparison: Comparison) -> str:
    names, rows = comparison
    head = "".join(
        f'<th scope="col">{_key(index)}{escape(name)}</th>' for index, name in enumerate(names)
    )
    body = "".join(
        f'<tr><th scope="row">{escape(label)}</th>' + "".join(map(_cell, cells)) + "</tr>"
        for label, cells in rows
    )
    note = "In brackets: relative to normal. " if NORMAL in names and len(names) > 1 else ""
    return (
        '<div class="scroll" role="region" aria-labelledby="side" tabindex="0">'
        f"<table><caption>{note}Final values are of the last round; bytes and "
        "seconds are means over all rounds, void ones included.</caption>"
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(text: str) -> str:
    """A number stays on one line; a sentence would push the columns after it out of sight."""
    kind = ' class="prose"' if len(text) > _LONGEST_NUMBER else ""
    return f"<td{kind}>{escape(text)}</td>"


def _rounds_table(mode: str, series: Series) -> str:
    shows: dict[str, Callable[[Any], str]] = {
        "outcome": str,
        "survivors": str,
        "contributors": str,
        "dropouts": str,
        "groups": _complete,
        "accuracy": decimal,
        "loss": decimal,
        "bytes_up": byte_size,
        "bytes_down": byte_size,
        "bytes_p2p": byte_size,
        "round_seconds": "{:.2f} s".format,
    }
    head = "".join(
        f'<th scope="col">{name}</th>'
        for name in (
            *("round", "outcome", "survivors", "trained", "dropouts", "groups"),
            *("accuracy", "loss"),
            *("up", "down", "peer to peer", "time"),
        )
    )
    columns = [[show(value) for value in series[key]] for key, show in shows.items()]
    body = "".join(
        f'<tr><th scope="row">{number}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        + "</tr>"
        for number, cells in enumerate(zip(*columns, strict=True), start=1)
    )
    last = series["suspected"][-1] if series["suspected"] else {}
    suspected = "".join(
        f"<p>Suspected: {escape(peer)}, whose groups ended void while others completed: "
        + ", ".join(f"round {round_} of run {run}" for run, round_ in rounds)
        + "</p>"
        for peer, rounds in last.items()
    )
    return (
        f'<details><summary>{escape(mode)}</summary><div class="scroll"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{suspected}</details>"
    )


def _complete(groups: list[dict[str, Any]]) -> str:
    """How many groups of a round are complete; a dash where the cohort was not cut."""
    complete = sum(group["outcome"] == "complete" for group in groups)
    return f"{complete}/{len(groups)}" if groups else ABSENT


def _line_chart(key: str, title: str, modes: Mapping[str, Series]) -> str:
    """One line a mode, over the rounds; where a value is missing the line is broken."""
    known = [value for series in modes.values() for value in series[key] if value is not None]
    if not known:
        return f"<figure><figcaption>{title}</figcaption><p>Not evaluated.</p></figure>"
    rounds = max(len(series[key]) for series in modes.values())
    heights = _ticks(min(known), max(known))
    low, high = heights[0], heights[-1]

    def x(number: float) -> float:
        share = (number - 1) / (rounds - 1) if rounds > 1 else 0.5
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _TOP + (high - value) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    digits = max(len(f"{value:.6g}".partition(".")[2]) for value in heights)
    marks = [
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(v):.1f}" y2="{y(v):.1f}"/>'
        f'<text x="{_LEFT - 8}" y="{y(v) + 4:.1f}" text-anchor="end">{v:.{digits}f}</text>'
        for v in heights
    ]
    marks += [
        f'<text x="{x(n):.1f}" y="{_HEIGHT - _BOTTOM + 19}" text-anchor="middle">{n}</text>'
        for n in range(1, rounds + 1, math.ceil(rounds / 10))
    ]
    marks.append(
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 5}" text-anchor="middle">'
        "round</text>"
    )
    for index, (mode, series) in enumerate(modes.items()):
        points, lines = [], [""]
        for number, (value, outcome) in enumerate(
            zip(series[key], series["outcome"], strict=True), start=1
        ):
            if value is None:
                lines.append("")
                continue
            lines[-1] += f"{x(number):.1f},{y(value):.1f} "
            hint = f"{mode}, round {number}: {value:.3f}"
            points.append(_marker(index, x(number), y(value), hint, void=outcome == "void"))
        marks.append(
            f'<g class="mode m{index % _STYLES}">'
            + "".join(f'<polyline points="{line.strip()}"/>' for line in lines if line)
            + "".join(points)
            + "</g>"
        )
    legend = "".join(f"<li>{_key(i)}{escape(mode)}</li>" for i, mode in enumerate(modes))
    if any("void" in series["outcome"] for series in modes.values()):
        legend += "<li>hollow: void round</li>"
    ends = "; ".join(
        f"{mode} from {values[0]:.3f} to {values[-1]:.3f}"
        for mode, series in modes.items()
        if (values := [value for value in series[key] if value is not None])
    )
    return f"""<figure><figcaption>{title}</figcaption>
<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-labelledby="{key}-t {key}-d">
<title id="{key}-t">{title} of the global model per round</title>
<desc id="{key}-d">{escape(ends)}</desc>
{"".join(marks)}</svg>
<ul class="legend" aria-label="Modes">{legend}</ul></figure>"""


def _marker(index: int, x: float, y: float, hint: str, *, void: bool = False) -> str:
    """Circle, square, triangle or diamond; hollow for a void round; `hint` shows on hovering."""
    if index % _STYLES == 0:
        shape = f'circle cx="{x:.1f}" cy="{y:.1f}" r="3.5"'
    else:
        corners: Iterable[tuple[float, float]] = (
            ((-3.3, -3.3), (3.3, -3.3), (3.3, 3.3), (-3.3, 3.3)),
            ((0, -4.5), (4.2, 3.2), (-4.2, 3.2)),
            ((0, -4.8), (4.8, 0), (0, 4.8), (-4.8, 0)),
        )[index % _STYLES - 1]
        points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
        shape = f'polygon points="{points}"'
    kind = " hollow" if void else ""
    ending = " (void)" if void else ""
    title = f"<title>{escape(hint + ending)}</title>" if hint else ""
    return f'<{shape} class="dot{kind}">{title}</{shape.split()[0]}>'


def _key(index: int) -> str:
    """A piece of the line of a mode, for legends; the name beside it is what is read out."""
    return (
        f'<svg class="key" viewBox="0 0 34 12" aria-hidden="true"><g class="mode m{index % _STYLES}'
        f'"><polyline points="1,6 33,6"/>{_marker(index, 17, 6, "")}</g></svg>'
    )


def _bar_chart(modes: Mapping[str, Series]) -> str:
    """Horizontal bars on one linear scale, named and numbered each, grouped by channel."""
    means = {
        (channel, mode): sum(series[channel]) / len(series[channel])
        for channel in _CHANNELS
        for mode, series in modes.items()
        if series[channel]
    }
    longest = max(means.values(), default=0)
    full_width, name_width, value_width = 640, 110, 80
    room = full_width - name_width - value_width
    marks, top = [], 0
    for channel, title in _CHANNELS.items():
        marks.append(f'<text class="group" x="0" y="{top + 16}">{title}</text>')
        top += 24
        for index, mode in enumerate(modes):
            if (channel, mode) not in means:
                continue
            mean = means[channel, mode]
            width = max(mean / longest * room, 1) if mean else 0
            marks.append(
                f'<text x="{name_width - 10}" y="{top + 13}" text-anchor="end">{escape(mode)}'
                f'</text><rect class="bar m{index % _STYLES}" x="{name_width}" y="{top + 1}"'
                f' width="{width:.1f}" height="16"/><text x="{name_width + width + 8:.1f}"'
                f' y="{top + 13}">{byte_size(mean)}</text>'
            )
            top += 20
        top += 12
    listed = "; ".join(
        f"{mode}: "
        + ", ".join(
            f"{title} {byte_size(means[channel, mode])}"
            for channel, title in _CHANNELS.items()
            if (channel, mode) in means
        )
        for mode in modes
    )
    return f"""<figure>
<svg class="bars" viewBox="0 0 {full_width} {top}" role="img" aria-labelledby="bars-t bars-d">
<title id="bars-t">Mean bytes of one peer in one round, by channel and mode</title>
<desc id="bars-d">{escape(listed)}</desc>
{"".join(marks)}</svg></figure>"""


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers, three to seven, the first not above `low` and the last not below `high`."""
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if span / 4 <= power * m * (1 + 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


_STYLE = """
:root{color-scheme:light dark;--page:#fdfdfc;--text:#1d2125;--soft:#5a626b;--rule:#dcdfe2;
--c0:#0072b2;--c1:#d55e00;--c2:#00805e;--c3:#a3508a}
@media(prefers-color-scheme:dark){:root{--page:#15181b;--text:#e6e8ea;--soft:#a2abb3;--rule:#343a40;
--c0:#56b4e9;--c1:#f0953f;--c2:#2fc79b;--c3:#dd9cc6}}
body{margin:0;background:var(--page);color:var(--text);font:16px/1.5 system-ui,sans-serif}
main{max-width:62rem;margin:0 auto;padding:2rem 1.25rem 4rem}
h1{font-size:1.6rem;line-height:1.25;margin:0 0 .5rem}
h2{font-size:1.1rem;margin:2.25rem 0 .75rem}
.lede{color:var(--soft);max-width:44rem;margin:0}
dl{display:flex;flex-wrap:wrap;gap:.5rem 2rem;margin:1.25rem 0 0}
dt{color:var(--soft);font-size:.8rem}dd{margin:0;overflow-wrap:anywhere}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;min-width:60%}
caption{caption-side:bottom;text-align:left;color:var(--soft);font-size:.8rem;padding-top:.5rem}
th,td{text-align:right;padding:.35rem .75rem;border-bottom:1px solid var(--rule);white-space:nowrap}
td.prose{white-space:normal;min-width:9rem}
th{font-weight:600}tbody th{font-weight:400;color:var(--soft)}
th:first-child,td:first-child{text-align:left;padding-left:0}
.pair{display:grid;gap:1.5rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr))}
figure{margin:0}figcaption{font-weight:600;margin-bottom:.25rem}
svg{display:block;width:100%;height:auto}.bars{max-width:44rem}
svg text{fill:var(--soft);font:12.5px system-ui,sans-serif}
svg .group{fill:var(--text);font-weight:600}
.grid{stroke:var(--rule)}
.m0{--c:var(--c0);--d:none}.m1{--c:var(--c1);--d:7 4}
.m2{--c:var(--c2);--d:2 3}.m3{--c:var(--c3);--d:10 3 2 3}
.mode polyline{fill:none;stroke:var(--c);stroke-width:2;stroke-dasharray:var(--d)}
.dot{fill:var(--c);stroke:var(--c);stroke-width:1.5}.dot.hollow{fill:var(--page)}
.bar{fill:var(--c)}
.legend{display:flex;flex-wrap:wrap;gap:.25rem 1.25rem;list-style:none;margin:.25rem 0 0;padding:0;
font-size:.85rem}
.key{display:inline-block;width:34px;height:12px;margin-right:.4rem;vertical-align:baseline}
details{margin:.5rem 0}summary{cursor:pointer}
@media print{details::details-content{content-visibility:visible}}
"""
