"""A user's own app in the containers: its packages, its hash, each peer's data, what it saves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support import own_app
from support.compose import Compose, docker, engine_missing, wait

PEERS = 5
PROJECT = "smpcfl-test-own-app"
LIST = "FLWR_HOME=/var/lib/smpcfl/flower-cli flwr list smpcfl --format json"
PACKAGE = "tabulate"  # small, and nothing else brings it

pytestmark = [
    pytest.mark.containers,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(bool(engine_missing()), reason=f"no Docker engine: {engine_missing()}"),
]


def readable(folder: Path) -> None:
    """By the user of the containers, which is another one."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)


def test_it_trains_on_each_peers_data_and_its_results_are_fetched(tmp_path: Path) -> None:
    app = own_app.written(tmp_path / "app", PACKAGE)
    data = own_app.numbers(tmp_path / "data", PEERS)
    readable(tmp_path)
    given = {"APP": str(app), "DATA": str(tmp_path / "data"), "PACKAGES": PACKAGE}
    files = ("-f", "docker-compose.yml", "-f", "docker/own-app.yml")
    compose = Compose(PROJECT, *files, **given)
    try:
        compose("build", "registry", "aggregator", "peer")
        image = ("--rm", "-v", f"{app}:/app:ro", "smpcfl-aggregator")
        compose.environment["SMPCFL_APPS"] = docker("run", *image, "hash", "/app").strip()
        compose("up", "-d", "--scale", f"peer={PEERS}", "registry", "aggregator", "peer")
        list_runs = ("exec", "-T", "aggregator", "sh", "-c", f"{LIST} 2>&1; true")
        wait(lambda: '"success": true' in compose(*list_runs), 180, lambda: compose("logs"), 2.0)
        shown = compose("exec", "-T", "aggregator", "smpcfl", "run", "--app", "/app")
        assert f"survivors {PEERS}/{PEERS}" in shown
        assert [r["outcome"] for r in compose.records()] == ["complete"] * own_app.ROUNDS
        compose("cp", "aggregator:/var/lib/smpcfl/results", str(tmp_path / "results"))
        learnt = float(np.loadtxt(tmp_path / "results" / own_app.SAVED))
        assert learnt == pytest.approx(own_app.learnt(data), abs=2e-3)
        refused = compose("exec", "-T", "peer", "sh", "-c", "touch /data/x 2>&1; true")
        assert "Read-only" in refused
    finally:
        compose("down", "-v", "--timeout", "5", check=False)
