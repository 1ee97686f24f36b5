"""Writes figures into pages: `python -m smpcfl.bench.page docs/benchmarks.md README.md`, in the repository.

They come from the committed JSON, and go between `<!-- bench:NAME:begin -->` and `<!-- bench:NAME:end -->`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import fill
from typing import Any

from .check import committed
from .measured import HERE, LIMIT, PLAIN, SECAGG, Measured

Cases = dict[str, Measured]
_BARS = 50  # characters of the longest
_BLOCK = re.compile(r"(<!-- bench:(\w+):begin -->\n).*?(<!-- bench:\2:end -->)", re.S)


def filled(text: str, result: dict[str, Any]) -> str:
    """The page with each block written anew, from what `smpcfl bench --json` wrote."""
    cases = {name: Measured.of(read) for name, read in result["cases"].items()}

    def block(found: re.Match[str]) -> str:
        return f"{found[1]}{_BLOCKS[found[2]](cases, result)}{found[3]}"

    return _BLOCK.sub(block, text)


def _table(cases: Cases, result: dict[str, Any]) -> str:
    """The cases that have a limit or a competitor, a row for each."""
    columns = (PLAIN, SECAGG, HERE, LIMIT)
    lines = [f"| | {' | '.join(columns)} | here / limit |", "|---|" + "---:|" * 5]
    for name, case in cases.items():
        if case.ratio is None:
            continue
        cells = [_cell(case, side) for side in columns]
        ratio = case.here_to(LIMIT) if LIMIT in case.sides else "–"
        lines.append(f"| `{name}`: {case.work} | {' | '.join(cells)} | {ratio} |")
    return "\n".join(lines) + "\n"


def _cell(case: Measured, side: str) -> str:
    if side not in case.sides:
        return "–"
    half = case.half(side)
    return case.median(side) + (f" ({half})" if half else "")


def _charts(cases: Cases, result: dict[str, Any]) -> str:
    return "```text\n" + "\n\n".join(_chart(name, case) for name, case in cases.items()) + "\n```\n"


def _chart(name: str, case: Measured) -> str:
    longest = max(spread.median for spread in case.sides.values())
    wide = max(map(len, case.sides))
    lines = [f"{name}: {case.work}"]
    for side, spread in case.sides.items():
        bar = "█" * max(round(_BARS * spread.median / longest), 1)
        lines.append(f"  {side:<{wide}}  {bar} {case.median(side)}")
    return "\n".join(lines)


def _machine(cases: Cases, result: dict[str, Any]) -> str:
    found = result["machine"]
    text = (
        f"Measured on {found['cpu_count']} cores of {found['cpu']} with a load of {found['load']}, with"
        f" Python {found['python']}, NumPy {found['numpy']}, cryptography {found['cryptography']} and Flower"
        f" {found['flwr']}, in {result['seconds']:.0f} s."
    )
    return fill(text, 120, break_on_hyphens=False) + "\n"


def _limits(cases: Cases, result: dict[str, Any]) -> str:
    lines = [
        fill(f"- `{name}`: {text}.", 120, subsequent_indent="  ", break_on_hyphens=False)
        for name, case in cases.items()
        for side, text in case.notes.items()
        if side == LIMIT
    ]
    return "\n".join(lines) + "\n"


def _readme(cases: Cases, result: dict[str, Any]) -> str:
    """What a newcomer wants to know: the cases that Flower has as well."""
    lines = [f"| | {PLAIN} | {SECAGG} | smpcfl |", "|---|---:|---:|---:|"]
    for case in cases.values():
        if SECAGG in case.sides:
            cells = " | ".join(case.median(side) for side in (PLAIN, SECAGG, HERE))
            lines.append(f"| {case.work} | {cells} |")
    return "\n".join(lines) + "\n"


def _peers(cases: Cases, result: dict[str, Any]) -> str:
    case = cases["peer-bytes"]
    each = [f"{case.median(side)} with {side}" for side in case.sides]
    return f"What a peer sends to the others in a round: {', '.join(each)}.\n"


_BLOCKS: dict[str, Callable[[Cases, dict[str, Any]], str]] = {
    "table": _table,
    "charts": _charts,
    "machine": _machine,
    "limits": _limits,
    "readme": _readme,
    "peers": _peers,
}


def main(pages: list[str]) -> None:
    result = json.loads(committed(short=False).read_text(encoding="utf-8"))
    for page in map(Path, pages):
        page.write_text(filled(page.read_text(encoding="utf-8"), result), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
