"""A user's own app in the containers: its packages, its hash, each peer's data, what it saves.

Its ten peers are in two groups of five: a round with them starts a process on each, and this app's are small.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support import own_app
from support.compose import ONE_MACHINE, Compose, engine_missing, wait

PEERS, SIZE = 10, 5
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
    given |= {"SMPCFL_GROUP_SIZE": str(SIZE), "SMPCFL_MIN_PEERS": str(PEERS)}
    compose = Compose(PROJECT, *ONE_MACHINE, "-f", "docker/own-app.yml", **given)
    try:
        compose("build", "registry", "aggregator", "peer")
        hashing = ("run", "--rm", "--no-deps", "aggregator", "hash", "/app")
        compose.environment["SMPCFL_APPS"] = compose(*hashing).strip()
        compose("up", "-d", "--scale", f"peer={PEERS}", "registry", "aggregator", "peer")
        list_runs = ("exec", "-T", "aggregator", "sh", "-c", f"{LIST} 2>&1; true")
        wait(lambda: '"success": true' in compose(*list_runs), 900, lambda: compose("logs"), 5.0)
        shown = compose("exec", "-T", "aggregator", "smpcfl", "run", "--app", "/app")
        assert f"survivors {PEERS}/{PEERS}" in shown
        assert [r["outcome"] for r in compose.records()] == ["complete"] * own_app.ROUNDS
        in_two_groups(compose)
        compose("cp", "aggregator:/var/lib/smpcfl/results", str(tmp_path / "results"))
        learnt = float(np.loadtxt(tmp_path / "results" / own_app.SAVED))
        assert learnt == pytest.approx(own_app.learnt(data), abs=2e-3)
        refused = compose("exec", "-T", "peer", "sh", "-c", "touch /data/x 2>&1; true")
        assert "Read-only" in refused
    finally:
        compose("down", "-v", "--timeout", "5", check=False)


def in_two_groups(compose: Compose) -> None:
    """As the registry drew them, and as its operator can draw them anew."""
    records = compose.records()
    for record in records:
        assert (record["cohort"], record["survivors"]) == (PEERS, PEERS)
        assert [
            (group["group"], group["outcome"], group["cohort"], group["survivors"])
            for group in record["groups"]
        ] == [(1, "complete", SIZE, SIZE), (2, "complete", SIZE, SIZE)]
    (draw,) = {record["draw"] for record in records}
    assert "groups 2/2" in compose("logs", "--no-color", "aggregator")
    drawn = f"{PEERS} peers in 2 groups of {SIZE} to {SIZE}, 0 left out"
    assert f"draw {draw}: {drawn}" in compose("logs", "--no-color", "registry")
    peers = compose("logs", "--no-color", "peer")
    for group in (1, 2):
        assert peers.count(f"group {group} of 2, {SIZE} members") == SIZE
    said = compose("exec", "-T", "registry", "smpcfl", "draw")
    assert drawn in said
    assert not said.startswith(f"draw {draw}:")
