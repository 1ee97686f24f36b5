"""The exchange graph: regular, symmetric, connected, and drawn from the seed."""

from __future__ import annotations

import pytest

from smpcfl.protocol.errors import LocalError
from smpcfl.protocol.graph import check_degree, neighbours

POSSIBLE = [(n, k) for n in range(3, 14) for k in range(2, n) if n * k % 2 == 0]
POSSIBLE += [(50, 21), (51, 20), (200, 40)]


@pytest.mark.parametrize(("size", "degree"), POSSIBLE)
def test_graph_is_regular_symmetric_and_without_loops(size: int, degree: int) -> None:
    graph = neighbours(size, degree, b"seed")
    assert len(graph) == size
    for index, near in enumerate(graph):
        assert len(near) == degree
        assert list(near) == sorted(set(near))
        assert index not in near
        assert all(index in graph[other] for other in near)


@pytest.mark.parametrize(("size", "degree"), POSSIBLE)
def test_graph_is_connected(size: int, degree: int) -> None:
    graph = neighbours(size, degree, b"seed")
    found, waiting = {0}, [0]
    while waiting:
        fresh = set(graph[waiting.pop()]) - found
        found |= fresh
        waiting += fresh
    assert len(found) == size


def test_same_seed_same_graph_other_seed_other_graph() -> None:
    graphs = {tuple(neighbours(40, 6, bytes([seed]))) for seed in range(20)}
    assert len(graphs) == 20
    assert neighbours(40, 6, b"\x00") == neighbours(40, 6, b"\x00")


def test_complete_graph_needs_no_seed() -> None:
    assert neighbours(9, 8, b"a") == neighbours(9, 8, b"b")


def test_over_many_seeds_every_pair_meets_equally_often() -> None:
    seeds, size, degree = 600, 12, 4
    met = sum(1 in neighbours(size, degree, seed.to_bytes(4))[0] for seed in range(seeds))
    mean, variance = seeds * degree / (size - 1), seeds * 4 / 11 * 7 / 11
    assert abs(met - mean) < 5 * variance**0.5


@pytest.mark.parametrize(("size", "degree"), [(5, 5), (5, 0), (5, -2), (5, 3), (7, 1), (3, 4)])
def test_an_impossible_degree_is_refused(size: int, degree: int) -> None:
    with pytest.raises(LocalError, match="degree"):
        check_degree(size, degree)
    with pytest.raises(LocalError):
        neighbours(size, degree, b"")
