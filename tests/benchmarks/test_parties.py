"""benchmarks/parties.py in small, and the page that was made with it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import smpcfl

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SERVICES = Path(smpcfl.__file__).parents[1]


@pytest.fixture(scope="module")
def parties() -> ModuleType:
    spec = importlib.util.spec_from_file_location("parties", BENCHMARKS / "parties.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_tenth_lost_at_random_phases(parties: ModuleType) -> None:
    figures = parties.run(60, 1000, 0.1)
    assert 54 <= figures.survivors < 60
    assert min(*figures.peer_s.values(), *figures.aggregator_s.values()) > 0
    assert 4000 * figures.survivors / 60 < figures.sent["upload"] < 7000


def test_bytes_of_a_peer_grow_with_the_number_of_its_neighbours(parties: ModuleType) -> None:
    """A receipt is one signature however many it is over; an answer has a share of each neighbour."""
    small, large = (parties.run(n, 10, 0.0) for n in (24, 48))
    assert large.sent["p2p"] / small.sent["p2p"] < 1.1 * 47 / 23
    assert large.sent["unmask"] / small.sent["unmask"] < 1.2 * 47 / 23


@pytest.mark.commands
def test_the_page_has_the_columns_of_the_table_that_is_printed(tmp_path: Path) -> None:
    """Of the script as it is called, with the package and nothing of the tests."""
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "parties.py", "--parties", "5", "10"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SERVICES)},
        capture_output=True,
        text=True,
        check=True,
    )
    head, rule, *rows = done.stdout.splitlines()[:4]
    page = (BENCHMARKS / "parties.md").read_text(encoding="utf-8")
    assert page.count(f"{head}\n{rule}\n") == 2
    assert [row.count("|") for row in rows] == [head.count("|")] * 2
    assert [row.split(" | ")[0] for row in rows] == ["| 5", "| 10"]
