"""The committed dashboards, and the data of their panels: every query is sent as Grafana would send it.

prometheus = Prometheus("http://127.0.0.1:9090")
window = Window(start, end)
for answer in fetch("smpcfl", prometheus, window):
    answer.target.title, answer.legend(series), series.points
"""

from __future__ import annotations

import json
import math
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / "grafana/dashboards"
SCRAPE_S = 5  # as `timeInterval` of the data source and `scrape_interval` of Prometheus
_WIDTH = 1000  # points that Grafana asks for: about the width of a panel


@dataclass(frozen=True)
class Target:
    """One query of a panel."""

    board: str
    panel: int
    title: str
    kind: str
    unit: str
    ref: str
    expr: str
    legend: str
    instant: bool
    table: bool


@dataclass(frozen=True)
class Series:
    """Of a result: labels, and (seconds since the epoch, value)."""

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]

    @property
    def last(self) -> float:
        return self.points[-1][1]

    @property
    def values(self) -> list[float]:
        return [value for _, value in self.points]


@dataclass(frozen=True)
class Answer:
    """What a query came to."""

    target: Target
    query: str
    """As it was sent, without variables."""
    series: tuple[Series, ...]
    error: str = ""

    def legend(self, series: Series) -> str:
        return re.sub(r"{{\s*(\w+)\s*}}", lambda m: series.labels.get(m[1], ""), self.target.legend)


@dataclass(frozen=True)
class Window:
    """The range of time that the dashboard shows, seconds since the epoch."""

    start: float
    end: float
    variables: Mapping[str, str] = field(default_factory=dict)
    """The dashboard's own, each as it is put into a query."""

    @property
    def step(self) -> int:
        return max(SCRAPE_S, math.ceil((self.end - self.start) / _WIDTH))

    def put_into(self, expr: str) -> str:
        """KeyError for a variable that has no value."""
        values = {
            **self.variables,
            "__range": f"{math.ceil(self.end - self.start)}s",
            "__interval": f"{self.step}s",
            "__rate_interval": f"{max(self.step + SCRAPE_S, 4 * SCRAPE_S)}s",
        }
        return re.sub(r"\$(\w+)", lambda match: values[match[1]], expr)


class Prometheus:
    """Its HTTP API."""

    def __init__(self, url: str = "http://127.0.0.1:9090") -> None:
        self.url = url

    def get(self, path: str, **parameters: str | float) -> Any:
        """The `data` of an answer; ValueError with what is wrong."""
        given = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{given}", timeout=20) as reply:
                return json.loads(reply.read())["data"]
        except urllib.error.HTTPError as error:
            raise ValueError(error.read().decode(errors="replace")) from None

    def at(self, query: str, time: float) -> tuple[Series, ...]:
        found = self.get("query", query=query, time=time)
        assert found["resultType"] == "vector", found["resultType"]
        return tuple(_series(item["metric"], [item["value"]]) for item in found["result"])

    def over(self, query: str, window: Window) -> tuple[Series, ...]:
        found = self.get(
            "query_range", query=query, start=window.start, end=window.end, step=window.step
        )
        return tuple(_series(item["metric"], item["values"]) for item in found["result"])

    def label_values(self, selector: str, label: str, window: Window) -> list[str]:
        parameters: dict[str, str | float] = {
            "match[]": selector,
            "start": window.start,
            "end": window.end,
        }
        return sorted(self.get(f"label/{label}/values", **parameters))


def boards() -> dict[str, dict[str, Any]]:
    """Each dashboard by its uid."""
    found = [json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))]
    return {board["uid"]: board for board in found}


def panels(board: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """All that show something, those of folded rows as well."""
    for panel in board["panels"]:
        if panel["type"] == "row":
            yield from panel["panels"]
        else:
            yield panel


def rows(board: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield from (panel for panel in board["panels"] if panel["type"] == "row")


def targets(board: Mapping[str, Any]) -> Iterator[Target]:
    for panel in panels(board):
        for target in panel["targets"]:
            yield Target(
                board["uid"],
                panel["id"],
                panel["title"],
                panel["type"],
                _unit(panel, target["refId"]),
                target["refId"],
                target["expr"],
                target["legendFormat"],
                bool(target.get("instant")),
                target.get("format") == "table",
            )


def variables(
    board: Mapping[str, Any], prometheus: Prometheus, window: Window, **chosen: str
) -> dict[str, str]:
    """Of a dashboard: `chosen`, or all values if it takes several, or the first one.

    ValueError if there is none to choose.
    """
    values: dict[str, str] = {}
    for variable in board["templating"]["list"]:
        name = variable["name"]
        selector, label = variable_query(variable)
        found = prometheus.label_values(selector, label, window)
        if not found:
            raise ValueError(f"variable {name} of {board['uid']} has no values: {selector}")
        every = f"({'|'.join(found)})" if variable.get("multi") else found[0]
        values[name] = chosen.get(name, every)
    return values


def variable_query(variable: Mapping[str, Any]) -> tuple[str, str]:
    """Selector and label of `label_values(...)`."""
    match = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
    assert match, variable["query"]
    return match[1], match[2]


def fetch(uid: str, prometheus: Prometheus, window: Window, **chosen: str) -> list[Answer]:
    """The answer to every query of a dashboard, in the order of its panels."""
    board = boards()[uid]
    window = Window(window.start, window.end, variables(board, prometheus, window, **chosen))
    return [ask(target, prometheus, window) for target in targets(board)]


def ask(target: Target, prometheus: Prometheus, window: Window) -> Answer:
    query = window.put_into(target.expr)
    try:
        if target.instant:
            return Answer(target, query, prometheus.at(query, window.end))
        return Answer(target, query, prometheus.over(query, window))
    except ValueError as error:
        return Answer(target, query, (), str(error))


def _series(labels: Mapping[str, str], values: list[tuple[float, str]]) -> Series:
    return Series(labels, tuple((float(time), float(value)) for time, value in values))


def _unit(panel: Mapping[str, Any], ref: str) -> str:
    """A table has one for each column."""
    names = {
        old: new
        for item in panel.get("transformations", ())
        if item["id"] == "organize"
        for old, new in item["options"]["renameByName"].items()
    }
    column = names.get(f"Value #{ref}", "")
    for override in panel["fieldConfig"]["overrides"]:
        if override["matcher"] == {"id": "byName", "options": column}:
            for item in override["properties"]:
                if item["id"] == "unit":
                    return str(item["value"])
    return str(panel["fieldConfig"]["defaults"]["unit"])
