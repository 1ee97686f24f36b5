"""Reads queries for Prometheus as far as it takes to tell which series and labels they use."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from prometheus_client import CollectorRegistry

from smpcfl.base.metrics import HistogramFamily, Metrics

SCRAPED = {"job", "instance", "peer", "alertname"}  # labels that Prometheus adds

# Not of `smpcfl.base.metrics`, but of Prometheus and of its client library.
FOREIGN: dict[str, dict[str, tuple[str, ...] | None]] = {
    "up": {},
    "process_resident_memory_bytes": {},
    "ALERTS": {
        "alertstate": ("pending", "firing"),
        "severity": ("warning", "critical"),
        "mode": None,
        "reason": None,
    },
}

TOKEN = re.compile(
    r'(?P<string>"(?:[^"\\]|\\.)*")'
    r"|(?P<range>\[[^\]]*\])"
    r"|(?P<name>[A-Za-z_:][\w:]*)"
    r"|(?P<number>\d[\w.]*)"
    r"|(?P<op>=~|!~|!=|==|>=|<=|[-+*/%^(){},=<>])"
    r"|(?P<space>\s+)"
)
GROUPING = {"by", "without", "on", "ignoring", "group_left", "group_right"}
OPERATORS = {"and", "or", "unless", "bool", "offset"}


@cache
def series() -> dict[str, dict[str, tuple[str, ...] | None]]:
    """Every name that a query may use, with its labels and their values."""
    known = dict(FOREIGN)
    for family in Metrics("seeded", CollectorRegistry()).families:
        if isinstance(family, HistogramFamily):
            known[family.name + "_bucket"] = {**family.values, "le": None}
            known[family.name + "_sum"] = known[family.name + "_count"] = family.values
        else:
            known[family.name] = family.values
    return known


def tokens(query: str) -> list[str]:
    found, at = [], 0
    while at < len(query):
        match = TOKEN.match(query, at)
        assert match, f"cannot read {query[at:]!r} in {query!r}"
        at = match.end()
        if match.lastgroup not in ("space", "range"):
            found.append(match.group())
    return found


def problems(query: str, shown: tuple[str, ...] = ()) -> Iterator[str]:
    """What `query`, or a text that shows the labels `shown` of its result, uses undeclared."""
    words, at = [*tokens(query), ""], 0
    labels: dict[str, tuple[str, ...] | None] = {}  # of all metrics in the query
    grouped = []
    made = {name.strip('"') for name in made_labels(words)}
    while words[at]:
        word, following = words[at], words[at + 1]
        at += 1
        if not re.match("[A-Za-z_:]", word) or word in OPERATORS:
            continue
        if word in GROUPING:
            end = words.index(")", at)
            grouped += [name for name in words[at + 1 : end] if name != ","]
            at = end
        elif following == "(" or following in GROUPING:
            continue  # a function or an aggregation
        else:
            if word not in series():
                yield f"metric {word}"
            own = series().get(word, {})
            labels |= own
            if following == "{":
                end = words.index("}", at)
                matchers = [w for w in words[at + 1 : end] if w != ","]
                at = end
                for name, op, value in zip(
                    matchers[::3], matchers[1::3], matchers[2::3], strict=True
                ):
                    if name not in own.keys() | SCRAPED:
                        yield f"label {name} of {word}"
                    values = own.get(name)
                    if values and op in ("=", "!=") and value.strip('"') not in values:
                        yield f"value {name}={value} of {word}"
    for name in [*grouped, *shown]:
        if name not in labels.keys() | SCRAPED | made:
            yield f"label {name}"


def made_labels(words: list[str]) -> Iterator[str]:
    """Labels, in quotes, that the query makes: count_values("label", ...)."""
    for at, word in enumerate(words):
        if word == "count_values":
            yield next(following for following in words[at:] if following.startswith('"'))


def selectors(query: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Each metric that `query` asks for, with its matchers: {label: operator and value}."""
    words, at = [*tokens(query), ""], 0
    while words[at]:
        word, at = words[at], at + 1
        if word in GROUPING:
            at = words.index(")", at) + 1 if words[at] == "(" else at
        elif word in series():
            matchers = {}
            if words[at] == "{":
                end = words.index("}", at)
                found = [w for w in words[at + 1 : end] if w != ","]
                matchers = {k: op + v for k, op, v in zip(*[iter(found)] * 3, strict=True)}
                at = end
            yield word, matchers
