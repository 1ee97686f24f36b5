"""A dashboard drawn as one page from the answers to its queries, where there is no Grafana to draw it.

Places, titles, units, colours, stacking and legends are those of the dashboard's JSON. It looks like
Grafana's dark theme, and its foot has to say what it is.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from smpcfl.reports.units import byte_size
from support.dashboards import Answer, Series, Window, boards, panels, rows

WIDTH = 1200  # pixels; a dashboard has 24 columns
_COLUMN, _ROW, _GAP = WIDTH / 24, 31, 8
_FALLBACK = ("#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2")  # Grafana's own
_STEPS_S = (15, 30, 60, 120, 300, 600, 1800)
_TITLE, _LINE = 30, 17  # pixels: of a panel's title, of a line of its legend

_STYLE = f"""
*{{box-sizing:border-box}}
body{{margin:0;padding:0 12px;width:{WIDTH + 24}px;background:#111217;color:#ccccdc;
font:12px/1.4 Inter,"Helvetica Neue",Arial,sans-serif}}
header{{display:flex;gap:10px;align-items:center;padding:12px 4px 8px}}
h1{{font-size:17px;margin:0;font-weight:500}}
header span{{border:1px solid #34363d;background:#181b1f;border-radius:2px;padding:4px 9px}}
header span:last-child{{margin-left:auto}}header b{{color:#8e8f9b;font-weight:400;padding-right:6px}}
main{{position:relative;width:{WIDTH}px}}
h2{{position:absolute;left:4px;margin:0;font-size:14px;font-weight:500;line-height:{_ROW - _GAP}px}}
h2::before{{content:"";display:inline-block;border:solid #ccccdc;border-width:0 1.5px 1.5px 0;padding:2.5px;
transform:rotate(45deg);margin:0 9px 3px 3px}}
article{{position:absolute;background:#181b1f;border:1px solid #25272d;border-radius:2px;overflow:hidden}}
h3{{margin:0;padding:0 9px;font-size:12.5px;font-weight:500;line-height:{_TITLE}px;white-space:nowrap}}
svg{{display:block}}text{{fill:#9fa1ad;font-size:10.5px}}
ul{{list-style:none;margin:0;padding:0 9px;display:flex;flex-wrap:wrap;gap:0 12px;font-size:11px;
line-height:{_LINE}px}}
i{{display:inline-block;width:13px;height:4px;border-radius:2px;margin-right:5px;vertical-align:3px}}
.stat{{display:flex;justify-content:space-evenly;align-items:center;padding:0 4px 8px;
height:calc(100% - {_TITLE}px);white-space:nowrap;font-size:11px;text-align:center}}
.stat div{{color:#9fa1ad}}
.stat strong{{display:block;font-size:29px;font-weight:500;line-height:1.15;color:#d8d9e4}}
table{{border-collapse:collapse;width:100%;white-space:nowrap;font-size:11.5px}}
td,th{{text-align:right;padding:0 9px;line-height:19px;font-weight:400;border-bottom:1px solid #22252b}}
th{{color:#8ab8ff;line-height:22px}}td:first-child,th:first-child{{text-align:left}}
.gauge{{padding:4px 10px}}.gauge div{{display:flex;align-items:center;gap:10px;margin:3px 0 12px}}
.gauge span{{flex:1;background:#22252b;height:22px}}.gauge span b{{display:block;height:100%}}
.empty{{text-align:center;color:#8e8f9b;padding:30px 16px}}
footer{{padding:8px 4px 16px;font-size:14px;color:#d8d9e4}}
"""


@dataclass(frozen=True)
class _Line:
    """One series of a panel, with its look."""

    name: str
    colour: str
    dashed: bool
    series: Series


def page(uid: str, answers: Sequence[Answer], window: Window, until: str, foot: str) -> str:
    """The rows of the board before the one with the title `until`; `foot` says what this is."""
    board = boards()[uid]
    (end,) = (row["gridPos"]["y"] for row in rows(board) if row["title"] == until)
    parts = [
        f'<h2 style="top:{row["gridPos"]["y"] * _ROW + 2}px">{escape(row["title"])}</h2>'
        for row in rows(board)
        if row["gridPos"]["y"] < end
    ]
    for panel in panels(board):
        if panel["gridPos"]["y"] < end:
            own = [answer for answer in answers if answer.target.panel == panel["id"]]
            parts.append(_panel(panel, own, window))
    variables = "".join(
        f"<span><b>{escape(item['label'])}</b>{'All' if item.get('multi') else 'one'}</span>"
        for item in board["templating"]["list"]
    )
    shown = " to ".join(_clock(moment, "%H:%M:%S") for moment in (window.start, window.end))
    return f"""<!DOCTYPE html><html lang="en"><meta charset="utf-8"><style>{_STYLE}</style>
<header><h1>{escape(board["title"])}</h1>{variables}<span>{shown} UTC</span></header>
<main style="height:{end * _ROW}px">{"".join(parts)}</main><footer>{escape(foot)}</footer></html>"""


def _panel(panel: Mapping[str, Any], answers: Sequence[Answer], window: Window) -> str:
    place = panel["gridPos"]
    width, height = place["w"] * _COLUMN - _GAP, place["h"] * _ROW - _GAP
    inside = width - 2, height - 2 - _TITLE
    lines = list(_lines(panel, answers))
    kind = panel["type"]
    if not lines:
        drawn = f'<p class="empty">{escape(panel["fieldConfig"]["defaults"]["noValue"])}</p>'
    elif kind == "stat":
        drawn = _stat(panel, answers)
    elif kind == "timeseries":
        drawn = _over_time(panel, lines, answers[0].target.unit, window, *inside)
    elif kind == "barchart":
        drawn = _bars(panel, lines, answers[0].target.unit, *inside)
    elif kind == "bargauge":
        drawn = _gauges(lines, answers[0].target.unit)
    elif kind == "table":
        drawn = _table(panel, answers, window)
    else:
        raise ValueError(f"panel {panel['id']} is a {kind}, which is not drawn here")
    return (
        f'<article style="left:{place["x"] * _COLUMN + _GAP / 2}px;top:{place["y"] * _ROW}px;'
        f'width:{width}px;height:{height}px"><h3>{escape(panel["title"])}</h3>{drawn}</article>'
    )


def _lines(panel: Mapping[str, Any], answers: Sequence[Answer]) -> Iterator[_Line]:
    number = 0
    for answer in answers:
        for series in answer.series:
            name = answer.legend(series)
            look = _look(panel, name)
            colour = look.get("color", {}).get("fixedColor") or _FALLBACK[number % len(_FALLBACK)]
            dashed = look.get("custom.lineStyle", {}).get("fill") == "dash"
            number += 1
            yield _Line(name, colour, dashed, series)


def _look(panel: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What the overrides say of the field of this name."""
    found = {}
    for override in panel["fieldConfig"]["overrides"]:
        matcher, wanted = override["matcher"]["id"], override["matcher"]["options"]
        if (matcher == "byRegexp" and re.search(wanted.strip("/"), name)) or wanted == name:
            found.update({item["id"]: item["value"] for item in override["properties"]})
    return found


# -- kinds of panels -------------------------------------------------------------------------------


def _stat(panel: Mapping[str, Any], answers: Sequence[Answer]) -> str:
    found = [(answer, series) for answer in answers for series in answer.series]
    names = panel["options"]["textMode"] == "name"
    shown = []
    for answer, series in found:
        name = escape(answer.legend(series))
        value = name if names else escape(shown_as(series.last, answer.target.unit))
        above = name if len(found) > 1 else ""
        shown.append(f"<div>{above}<strong>{value}</strong></div>")
    return f'<div class="stat">{"".join(shown)}</div>'


def _over_time(
    panel: Mapping[str, Any],
    lines: Sequence[_Line],
    unit: str,
    window: Window,
    width: float,
    height: float,
) -> str:
    custom = panel["fieldConfig"]["defaults"]["custom"]
    stacked = custom.get("stacking", {}).get("mode") == "normal"
    bars, steps = custom["drawStyle"] == "bars", custom.get("lineInterpolation") == "stepAfter"
    height -= _legend_height(lines, width)
    below: dict[float, float] = {}
    bands: list[tuple[_Line, list[tuple[float, float, float]]]] = []
    for line in lines:
        band = []
        for moment, value in line.series.points:
            low = below.get(moment, 0.0) if stacked else 0.0
            below[moment] = low + value
            band.append((moment, low, low + value))
        bands.append((line, band))
    values = [high for _, band in bands for _, _, high in band]
    marks = _ticks(min([*values, *([0.0] if "axisSoftMin" in custom else [])]), max(values))
    plot = _Plot(width, height, marks, unit)

    def x(moment: float) -> float:
        share = (moment - window.start) / (window.end - window.start)
        return plot.left + share * (width - plot.left - 12)

    drawn = [plot.grid(), *_times(window, x, width, height)]
    for line, band in bands:
        for part in _unbroken(band, window.step):
            tops = [(x(moment), plot.y(high)) for moment, _, high in part]
            lows = [(x(moment), plot.y(low)) for moment, low, _ in part]
            if bars:
                drawn += [
                    f'<rect x="{a - 2:.1f}" y="{top:.1f}" width="4" height="{low - top:.1f}"'
                    f' fill="{line.colour}"/>'
                    for (a, top), (_, low) in zip(tops, lows, strict=True)
                    if low > top
                ]
                continue
            if stacked:
                area = _path([*_stairs(tops, steps), *reversed(_stairs(lows, steps))])
                opacity = custom["fillOpacity"] / 100
                drawn.append(f'<path d="{area}Z" fill="{line.colour}" opacity="{opacity}"/>')
            dash = ' stroke-dasharray="6 6"' if line.dashed else ""
            drawn.append(
                f'<path d="{_path(_stairs(tops, steps))}" fill="none" stroke="{line.colour}"'
                f' stroke-width="{custom["lineWidth"]}"{dash}/>'
            )
    return _svg(width, height, drawn) + _legend(lines)


def _bars(
    panel: Mapping[str, Any], lines: Sequence[_Line], unit: str, width: float, height: float
) -> str:
    across = panel["options"]["xField"]
    names = sorted({line.series.labels[across] for line in lines})
    columns = {line.name: line for line in lines}
    height -= _legend_height([*columns.values()], width)
    sums = dict.fromkeys(names, 0.0)
    for line in lines:
        sums[line.series.labels[across]] += line.series.last
    plot = _Plot(width, height, _ticks(0.0, max(sums.values())), unit)
    step = (width - plot.left - 12) / len(names)
    every = math.ceil(76 / step)  # so wide is a name
    drawn, low = [plot.grid()], dict.fromkeys(names, 0.0)
    for line in lines:
        name = line.series.labels[across]
        top = low[name] + line.series.last
        left = plot.left + step * (names.index(name) + 0.18)
        drawn.append(
            f'<rect x="{left:.1f}" y="{plot.y(top):.1f}" width="{step * 0.64:.1f}" opacity="0.8"'
            f' height="{plot.y(low[name]) - plot.y(top):.1f}" fill="{line.colour}"/>'
        )
        low[name] = top
    drawn += [
        f'<text x="{plot.left + step * (number + 0.5):.1f}" y="{height - 6:.1f}"'
        f' text-anchor="middle">{escape(name)}</text>'
        for number, name in enumerate(names)
        if number % every == 0
    ]
    return _svg(width, height, drawn) + _legend([*columns.values()])


def _gauges(lines: Sequence[_Line], unit: str) -> str:
    most = max(line.series.last for line in lines)
    return (
        '<div class="gauge">'
        + "".join(
            f'{escape(line.name)}<div><span><b style="width:{100 * line.series.last / most:.1f}%;'
            f'background:{line.colour}"></b></span>{escape(shown_as(line.series.last, unit))}</div>'
            for line in lines
        )
        + "</div>"
    )


def _table(panel: Mapping[str, Any], answers: Sequence[Answer], window: Window) -> str:
    """The results of all queries, joined by their label."""
    (options,) = (t["options"] for t in panel["transformations"] if t["id"] == "organize")
    fields = sorted(options["indexByName"], key=options["indexByName"].__getitem__)
    found: dict[str, dict[str, str]] = {}
    for answer in answers:
        for series in answer.series:
            value = shown_as(series.last, answer.target.unit, now=window.end)
            name = series.labels[fields[0]]
            found.setdefault(name, {fields[0]: name})[f"Value #{answer.target.ref}"] = value
    head = "".join(f"<th>{escape(options['renameByName'][field])}</th>" for field in fields)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(row.get(field, '–'))}</td>" for field in fields) + "</tr>"
        for _, row in sorted(found.items())
    )
    return f"<table><tr>{head}</tr>{body}</table>"


# -- pieces of charts ------------------------------------------------------------------------------


class _Plot:
    """The vertical axis."""

    def __init__(self, width: float, height: float, marks: Sequence[float], unit: str) -> None:
        self._width, self._height, self._marks = width, height, marks
        self._labels = [shown_as(mark, unit, axis=True) for mark in marks]
        self.left = 16 + 6 * max(map(len, self._labels))

    def y(self, value: float) -> float:
        low, high = self._marks[0], self._marks[-1]
        return 6 + (high - value) / (high - low) * (self._height - 30)

    def grid(self) -> str:
        return "".join(
            f'<path d="M{self.left},{self.y(mark):.1f}H{self._width - 12:.1f}" stroke="#2a2d34"/>'
            f'<text x="{self.left - 6}" y="{self.y(mark) + 3.5:.1f}" text-anchor="end">'
            f"{escape(label)}</text>"
            for mark, label in zip(self._marks, self._labels, strict=True)
        )


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers around all values."""
    if high <= low:
        high = low + 1
    rough = (high - low) / 4
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    first, last = math.floor(low / step), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def _times(window: Window, x: Any, width: float, height: float) -> Iterator[str]:
    most = width / 75
    step = next(s for s in _STEPS_S if (window.end - window.start) / s <= most)
    moment = math.ceil(window.start / step) * step
    while moment < window.end:
        if 34 < x(moment) < width - 24:
            yield (
                f'<text x="{x(moment):.1f}" y="{height - 6:.1f}" text-anchor="middle">'
                f"{_clock(moment, '%H:%M:%S' if step < 60 else '%H:%M')}</text>"
            )
        moment += step


def _unbroken(
    band: Sequence[tuple[float, float, float]], step: float
) -> Iterator[list[tuple[float, float, float]]]:
    """Cut where a value is missing; one that stands alone is as long as a step."""
    part: list[tuple[float, float, float]] = []
    for point in band:
        if part and point[0] - part[-1][0] > 1.5 * step:
            yield part
            part = []
        part.append(point)
    if part:
        yield part if len(part) > 1 else [*part, (part[0][0] + step, *part[0][1:])]


def _stairs(points: Sequence[tuple[float, float]], steps: bool) -> list[tuple[float, float]]:
    if not steps:
        return list(points)
    found = [points[0]]
    for a, b in points[1:]:
        found += [(a, found[-1][1]), (a, b)]
    return found


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{a:.1f},{b:.1f}" for a, b in points)


def _svg(width: float, height: float, drawn: Sequence[str]) -> str:
    return f'<svg width="{width}" height="{height}">{"".join(drawn)}</svg>'


def _legend(lines: Sequence[_Line]) -> str:
    items = (
        f'<li><i style="background:{line.colour}"></i>{escape(line.name)}</li>' for line in lines
    )
    return f"<ul>{''.join(items)}</ul>"


def _legend_height(lines: Sequence[_Line], width: float) -> float:
    """As it will be wrapped, or a little more."""
    count, used = 1, 0.0
    for line in lines:
        item = 30 + 5.9 * len(line.name)
        if used and used + item > width - 18:
            count, used = count + 1, 0.0
        used += item
    return count * _LINE + 6


# -- numbers ---------------------------------------------------------------------------------------


def shown_as(value: float, unit: str, *, axis: bool = False, now: float = 0.0) -> str:
    """A number of this unit, in Grafana's words. `now` is for units that count from there."""
    plain = f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    if unit == "percentunit":
        return f"{100 * value:.{0 if axis else 1}f}%"
    if unit == "decbytes":
        return byte_size(value).replace(".0 ", " ")
    if unit == "s":
        for seconds, name in ((3600, "hours"), (60, "mins")):
            if value >= seconds and not axis:
                return f"{value / seconds:.1f} {name}"
        return f"{plain} s" if value else "0 s"
    if unit == "dateTimeFromNow":
        ago = now - value / 1000
        return "a few seconds ago" if ago < 45 else f"{max(round(ago / 60), 1)} min ago"
    if unit.startswith("suffix:"):
        return plain + unit.removeprefix("suffix:")
    if unit == "none":
        return plain
    raise ValueError(f"unit {unit} is not known here")


def _clock(moment: float, form: str) -> str:
    return time.strftime(form, time.gmtime(moment))
