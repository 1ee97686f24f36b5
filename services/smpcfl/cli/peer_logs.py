"""Why training failed on the peers of a stack of one's own: their logs are for their operator alone."""

from __future__ import annotations

from pathlib import Path

_START = "Traceback (most recent call last):"


def first_traceback(folder: Path) -> str:
    """Of the first peer in a stack's `folder` that has one in its log, with its name; empty if none has."""
    for path in sorted(folder.glob("peer-*/log/supernode.log")):
        lines = path.read_text(errors="replace").splitlines()
        starts = (number for number, line in enumerate(lines) if line.strip() == _START)
        if (start := next(starts, None)) is not None:
            end = start + 1
            while end < len(lines) - 1 and lines[end].startswith(" "):
                end += 1
            return "\n".join([f"on {path.parent.parent.name}:", *lines[start : end + 1]])
    return ""
