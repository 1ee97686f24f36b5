"""benchmarks/parties.py in small: exact with a tenth of the peers lost, and at its price."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "parties.py"


@pytest.fixture(scope="module")
def parties() -> ModuleType:
    spec = importlib.util.spec_from_file_location("parties", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["parties"] = module  # its dataclasses look there
    spec.loader.exec_module(module)
    return module


def test_a_tenth_lost_at_random_phases(parties: ModuleType) -> None:
    cost = parties.run(60, 1000, 0.1, sample=2)  # it checks the sum itself
    assert 54 <= cost.survivors <= 60
    assert cost.peer_s > 0
    assert 4000 * cost.survivors / 60 < cost.bytes["upload"] < 7000


def test_bytes_of_a_peer_grow_with_the_square_of_the_cohort_at_most(parties: ModuleType) -> None:
    """A ready carries t confirmations to each of n - 1 neighbours; an answer has a share of each."""
    small, large = (parties.run(n, 10, 0.0, sample=1) for n in (24, 48))
    assert large.bytes["peer to peer"] / small.bytes["peer to peer"] < 1.1 * (47 / 23) ** 2
    assert large.bytes["answer"] / small.bytes["answer"] < 1.2 * 47 / 23
