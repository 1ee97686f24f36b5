"""Why training failed on the peers of a stack of one's own: their logs are for their operator alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..aggregator.flower_runs import TRACEBACK


def first_traceback(folder: Path) -> str:
    """Of the first peer in a stack's `folder` that has one in its log, with its name; empty if none has."""
    return next(_tracebacks(folder), "")


def with_traceback(folder: Path) -> int:
    """How many peers have one in their logs."""
    return sum(1 for _ in _tracebacks(folder))


def _tracebacks(folder: Path) -> Iterator[str]:
    """Of each peer that has one, the first."""
    for path in sorted(folder.glob("peer-*/log/supernode.log")):
        lines = path.read_text(errors="replace").splitlines()
        starts = (number for number, line in enumerate(lines) if line.strip() == TRACEBACK)
        if (start := next(starts, None)) is not None:
            end = start + 1
            while end < len(lines) - 1 and lines[end].startswith(" "):
                end += 1
            yield "\n".join([f"on {path.parent.parent.name}:", *lines[start : end + 1]])
