"""Arrays that change far more than the others, beside which eight bits have nothing left for these."""

from __future__ import annotations

import math

from ...protocol import kernels
from ...protocol.quantise import Arrays

_TIMES = 30.0


def uneven(before: Arrays, after: Arrays) -> dict[str, float]:
    """Float arrays whose change is more than 30 times that of half of all entries, and how many times."""
    found = sorted(
        (math.sqrt(kernels.squared_distance(old, after[name]) / old.size), old.size, name)
        for name, old in before.items()
        if old.dtype.kind == "f" and old.size
    )
    entries, seen, middle = sum(size for _, size, _ in found), 0, 0.0
    for change, size, _ in found:
        middle, seen = change, seen + size
        if 2 * seen >= entries:
            break
    return {name: change / middle for change, _, name in found if change > _TIMES * middle > 0.0}
