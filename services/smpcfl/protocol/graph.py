"""Who exchanges with whom: the complete graph, or a k-regular one above a peer's `max_complete`."""

from __future__ import annotations

import hashlib

from .errors import LocalError


def check_degree(size: int, degree: int) -> None:
    """LocalError unless a graph of `size` peers can have this degree."""
    if not 1 <= degree < size or size * degree % 2:
        raise LocalError(f"no graph of {size} peers has degree {degree} (n*k must be even, k < n)")


def neighbours(size: int, degree: int, seed: bytes) -> list[tuple[int, ...]]:
    """Neighbours of each cohort index 0..size-1, ascending.

    For k = n-1 the complete graph. Otherwise Harary's graph under a permutation drawn from `seed`
    (Bell et al., "Secure single-server aggregation with (poly)logarithmic overhead", CCS 2020, 3.1).
    """
    check_degree(size, degree)
    if degree == size - 1:
        return [tuple(j for j in range(size) if j != i) for i in range(size)]
    steps = [*range(1, degree // 2 + 1)]
    if degree % 2:
        steps.append(size // 2)
    order = _permutation(size, seed)
    result: list[set[int]] = [set() for _ in range(size)]
    for place, index in enumerate(order):
        for step in steps:
            other = order[(place + step) % size]
            result[index].add(other)
            result[other].add(index)
    return [tuple(sorted(found)) for found in result]


def _permutation(size: int, seed: bytes) -> list[int]:
    # Sorting by a keyed hash is a uniform permutation, and every language gets the same one.
    return sorted(range(size), key=lambda i: hashlib.sha256(seed + i.to_bytes(8, "big")).digest())
