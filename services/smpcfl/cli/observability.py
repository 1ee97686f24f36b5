"""Writes the tables of docs/observability.md: `python -m smpcfl.cli.observability docs/observability.md`.

They come from where metrics, events and fields are declared, and go between
`<!-- observability:NAME:begin -->` and `<!-- observability:NAME:end -->`.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from ..base import log
from ..base.log_events import FIELDS, LogEvent
from ..base.metrics import Family, Metrics
from ..protocol.ticket import SEEDED

_PACKAGE = Path(__file__).parents[1]
_BLOCK = re.compile(
    r"(<!-- observability:(\w+):begin -->\n).*?(<!-- observability:\2:end -->)", re.S
)
_ALL = ("registry", "peer", "aggregator")
# Whose process a file's code runs in, where it is not in the room of one service.
_SHARED = {
    "base/metrics.py": _ALL,
    "cli/serve.py": _ALL,
    "net/rpc.py": ("registry", "peer"),
    "net/mdns.py": ("registry", "peer"),
    "net/directory.py": ("peer", "aggregator"),
    "net/enrolment.py": ("peer", "aggregator"),
    "net/wire_bytes.py": _ALL,
}
_UNITS = {"_timestamp_seconds": "s since 1970", "_seconds": "s", "_bytes": "B"}
# Of labels whose values are bounded elsewhere.
_VALUES = {
    "reason": "a [reason](operations.md#messages-rejected)",
    "method": "a gRPC method; `.out` marks a call to another peer",
    "outcome": "`ok`, `refused`, `error`",
    "version": "of smpcfl",
}


def filled(text: str) -> str:
    """The page with each block written anew."""

    def block(found: re.Match[str]) -> str:
        rows = "".join(f"| {' | '.join(row)} |\n" for row in _BLOCKS[found[2]]())
        return f"{found[1]}{rows}{found[3]}"

    return _BLOCK.sub(block, text)


def shown_by() -> dict[str, tuple[str, ...]]:
    """By each metric's attribute of `Metrics`, the services that write it, as the code has it."""
    found = defaultdict[str, set[str]](set)
    names = _families().keys()
    for path in sorted(_PACKAGE.rglob("*.py")):
        place = path.relative_to(_PACKAGE)
        written = names & set(_written(path))
        services = _SHARED.get(str(place), (place.parts[0],))
        if written and not set(services) <= set(_ALL):
            raise ValueError(f"{place} writes {sorted(written)}: in which service does it run?")
        for name in written:
            found[name].update(services)
    return {name: tuple(sorted(found[name], key=_ALL.index)) for name in names}


def _families() -> dict[str, Family[Any]]:
    made = vars(Metrics(SEEDED, CollectorRegistry()))
    return {name: value for name, value in made.items() if isinstance(value, Family)}


def _written(path: Path) -> list[str]:
    """Attributes of what is called `metrics` or `_metrics`, and of `self` in the declaration itself."""
    found = []
    owners = ("metrics", "_metrics", *(("self",) if path.name == "metrics.py" else ()))
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            owner = node.value
            name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
            if name in owners:
                found.append(node.attr)
    return found


def _metrics() -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        ("metric", "type", "labels", "unit", "shown by", "what it is"),
        ("---",) * 6,
    ]
    services = shown_by()
    for attribute, family in _families().items():
        labels = [
            f"`{label}`: {_values(label, values)}"
            for label, values in family.values.items()
            if label != "mode"
        ]
        kind, text = family.metric._type, family.metric._documentation
        unit = next((u for end, u in _UNITS.items() if _base(family.name).endswith(end)), "")
        cells = (f"`{family.name}`", kind, "; ".join(labels), unit)
        rows.append((*cells, ", ".join(services[attribute]), text))
    return rows


def _base(name: str) -> str:
    return name.removesuffix("_total")


def _values(label: str, values: tuple[str, ...] | None) -> str:
    return _VALUES[label] if values is None else ", ".join(f"`{value}`" for value in values)


def _events() -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("event", "what happened"), ("---", "---")]
    return rows + [(f"`{event}`", event.meaning) for event in LogEvent]


def _fields() -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("member", "what it is"), ("---", "---")]
    return rows + [(f"`{name}`", text) for name, text in {**log.MEMBERS, **FIELDS}.items()]


_BLOCKS = {"metrics": _metrics, "events": _events, "fields": _fields}


def main(pages: list[str]) -> None:
    for page in map(Path, pages):
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
