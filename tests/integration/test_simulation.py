"""An app in Flower's real simulation engine, on Ray: with `smpcfl simulate`, drop-outs included."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from smpcfl.daemons.supervisor import children
from support.own_app import ROUNDS, SAVED, learnt, written

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(
        find_spec("ray") is None, reason="Ray is not installed: pip install 'smpcfl[simulation]'"
    ),
]


def simulate(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    app = written(folder / "app")
    command = [sys.executable, "-m", "smpcfl", "simulate", "--app", str(app)]
    return subprocess.run(
        [*command, "--report", str(folder / "report"), *options],
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "FLWR_TELEMETRY_ENABLED": "0"},
    )


def test_four_virtual_peers_learn_what_real_ones_do(tmp_path: Path) -> None:
    done = simulate(tmp_path, "--peers", "4")
    assert done.returncode == 0, done.stderr
    assert "it keeps nothing secret" in done.stdout
    report = json.loads((tmp_path / "report/report.json").read_text())
    assert report["modes"]["seeded"]["survivors"] == [4] * ROUNDS
    assert all(costs["verified"] > 0 for costs in report["meta"]["per_peer"])
    found = np.loadtxt(tmp_path / "report/seeded" / SAVED)
    # Sixteen bits an entry: a step of the quantiser is 4 / 2^15 of 4 peers' weights.
    assert abs(found - learnt(np.linspace(0.0, 1.0, 3000))) < 1e-3
    assert not [pid for pid in children(os.getpid()) if pid != os.getpid()], "no process is left"


def test_lost_peers_void_no_round_that_tolerates_them(tmp_path: Path) -> None:
    done = simulate(tmp_path, "--peers", "10", "--lost", "0.2")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report/report.json").read_text())
    assert report["modes"]["seeded"]["outcome"] == ["complete"] * ROUNDS
    assert all(sum(costs["lost"].values()) == 2 for costs in report["meta"]["per_peer"])


def test_the_benchmark_in_small_comes_to_one_model_with_and_without_us() -> None:
    benchmark = Path(__file__).parents[2] / "benchmarks/simulation.py"
    options = ["--peers", "6", "--parameters", "100", "--rounds", "1", "--evaluate", "1.0"]
    done = subprocess.run(
        [sys.executable, str(benchmark), *options], capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    assert [row.split()[1] for row in done.stdout.splitlines()[2:]] == ["plain", "secure"]
