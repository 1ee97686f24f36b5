"""The odds that some group of a draw holds more colluders than it withstands: the tables of the threat model.

    python benchmarks/group_odds.py

A group of m peers withstands (m − 2) // 3 colluders. How many are in a group is hypergeometric, and the tails
are exact: whole numbers, divided once. The sum over the groups bounds the odds that any of them is bad, from
above and closely, as long as they are small. Draws are independent of one another.
"""

from __future__ import annotations

from functools import cache
from math import comb, expm1, log1p

PERCENT = (5, 10, 15, 20)
PEERS = (1_000, 10_000)
DRAWS = (1, 1_000)
BOUND = 1e-8
_AFTER = 20


def group_sizes(peers: int, group_size: int) -> list[int]:
    """As the draw makes them (smpcfl.protocol.draw.cut): as even as can be."""
    groups = peers // group_size
    return [peers // groups + (place < peers % groups) for place in range(groups)]


def too_many(size: int) -> int:
    """The least number of colluders that a group of this size does not withstand."""
    return (size - 2) // 3 + 1


@cache
def tail(peers: int, colluders: int, size: int) -> float:
    """The odds that a random group of `size` of the `peers` holds too many of the `colluders`."""
    ways = sum(
        comb(colluders, found) * comb(peers - colluders, size - found)
        for found in range(too_many(size), min(colluders, size) + 1)
    )
    return ways / comb(peers, size)


def odds(peers: int, percent: int, group_size: int, draws: int = 1) -> float:
    """That in some of so many draws some group holds too many; `percent` of the peers collude."""
    colluders = peers * percent // 100
    one = min(sum(tail(peers, colluders, size) for size in group_sizes(peers, group_size)), 1.0)
    return -expm1(draws * log1p(-one)) if one < 1 else 1.0


def least_size(peers: int, percent: int, bound: float = BOUND) -> int | None:
    """The least group size from which on one draw keeps the bound; None if not even two groups do.

    From which on: the odds go up and down a little with the rest of a division by three, so the next sizes
    have to keep it too.
    """
    found = None
    for size in range(5, peers // 2 + 1):
        if odds(peers, percent, size) > bound:
            found = None
        elif found is None:
            found = size
        elif size == found + _AFTER:
            break
    return found


def _text(value: float) -> str:
    return f"{value:.1e}" if value < 0.01 else f"{value:.2f}"


def tables() -> str:
    """In Markdown."""
    lines = ["| peers | draws | " + " | ".join(f"{p} % collude" for p in PERCENT) + " |"]
    lines.append("| ---: | ---: | " + " | ".join("---:" for _ in PERCENT) + " |")
    for peers in PEERS:
        for draws in DRAWS:
            row = " | ".join(_text(odds(peers, percent, 64, draws)) for percent in PERCENT)
            lines.append(f"| {peers:,} | {draws:,} | {row} |")
    lines += ["", "| peers | " + " | ".join(f"{p} % collude" for p in PERCENT) + " |"]
    lines.append("| ---: | " + " | ".join("---:" for _ in PERCENT) + " |")
    for peers in PEERS:
        sizes = (least_size(peers, percent) for percent in PERCENT)
        row = " | ".join("no two groups" if size is None else str(size) for size in sizes)
        lines.append(f"| {peers:,} | {row} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(tables())
