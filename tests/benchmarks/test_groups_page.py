"""benchmarks/groups.py in small, and the odds of benchmarks/group_odds.py as the threat model has them."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # its dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def groups() -> ModuleType:
    return load("groups")


@pytest.fixture(scope="module")
def group_odds() -> ModuleType:
    return load("group_odds")


def test_what_a_peer_sends_and_checks_does_not_grow_with_the_deployment(
    groups: ModuleType,
) -> None:
    costs = [groups.cost(peers, 12, 2, 0.05) for peers in (120, 1_200, 12_000)]
    assert [len(item.sizes) for item in costs] == [10, 100, 1_000]
    for what in ("p2p_bytes", "sent_bytes", "verified"):
        assert abs(groups.slope(costs, what)) < 0.05, what


def test_where_groups_are_not_cut_it_would(groups: ModuleType) -> None:
    costs = [groups.cost(peers, 1_000, 1, 0.0) for peers in (8, 16, 32)]
    assert [item.sizes for item in costs] == [[8], [16], [32]]
    for what in ("p2p_bytes", "sent_bytes", "verified"):
        assert groups.slope(costs, what) > 0.5, what


def test_the_odds_are_those_of_random_draws(group_odds: ModuleType) -> None:
    chance, draws = random.Random(1), 4_000
    peers, sizes = range(200), group_odds.group_sizes(200, 20)
    bad = 0
    for _ in range(draws):
        order = chance.sample(peers, 200)
        at = 0
        for size in sizes:
            bad += sum(peer < 40 for peer in order[at : at + size]) >= group_odds.too_many(size)
            at += size
    expected = group_odds.odds(200, 20, 20) * draws
    assert 0.05 < expected / draws < 0.9
    assert abs(bad - expected) < 5 * (expected**0.5)


def test_the_checks_of_the_page(group_odds: ModuleType) -> None:
    found = [group_odds.odds(1_000, percent, 64) for percent in (5, 10, 15, 20)]
    assert found == pytest.approx([1.3e-13, 1.0e-6, 1.6e-3, 0.10], rel=0.03)
    assert group_odds.odds(1_000, 10, 64, 1_000) == pytest.approx(1.0e-3, rel=0.02)
    assert group_odds.least_size(1_000, 10) == 77
    assert group_odds.least_size(1_000, 35) is None


def test_the_threat_model_has_these_tables(group_odds: ModuleType) -> None:
    text = (ROOT / "docs/threat-model.md").read_text()
    first, second = group_odds.tables().split("\n\n")
    assert first in text
    assert second in text
