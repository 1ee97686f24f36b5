"""Numbers as people read them: in the terminal, in the log and in reports."""

from __future__ import annotations

import math

ABSENT = "-"


def byte_size(count: float) -> str:
    """A number of bytes to read, in powers of 1000: `0 B`, `5.9 kB`, `1.6 MB`."""
    units = ["TB", "GB", "MB", "kB", "B"]
    # Not 1000: 999.96 kB would be shown as 1000.0 kB.
    while count >= 999.95 and len(units) > 1:
        units.pop()
        count /= 1000
    return f"{count:.0f} B" if units[-1] == "B" else f"{count:.1f} {units[-1]}"


def decimal(value: float | None) -> str:
    """Three digits after the point, or a dash for what is not known or no number."""
    return ABSENT if value is None or not math.isfinite(value) else f"{value:.3f}"


def seconds(value: float) -> str:
    """`0.25 s`, `6.1 s`, `152 s`."""
    return f"{value:.{0 if value >= 100 else 1 if value >= 1 else 2}f} s"


def percent(share: float) -> str:
    """`91.3 %`."""
    return f"{100 * share:.1f} %"
