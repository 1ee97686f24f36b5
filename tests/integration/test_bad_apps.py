"""Apps that cannot work, as a user tries them: how soon that is said, and in which words."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.app_folder import write_app

pytestmark = pytest.mark.processes
PEERS, ROUNDS = 3, 6
APP = """\
import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg, Krum

import smpcfl.flower

client = ClientApp(mods=[smpcfl.flower.secure_mod])
server = ServerApp()


@client.train()
def train(message, context):
    value = {value}
    arrays = ArrayRecord({{"w": Array(np.full(8, value))}})
    metrics = MetricRecord({{"num-examples": 10}})
    return Message(RecordDict({{"arrays": arrays, "metrics": metrics}}), reply_to=message)


@server.main()
def main(grid, context):
    strategy = smpcfl.flower.SecureStrategy({strategy}(fraction_evaluate=0.0))
    initial = ArrayRecord({{"w": Array(np.zeros(8))}})
    strategy.start(grid, initial, num_rounds=int(context.run_config["num-server-rounds"]))
"""


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a short name: a stack has Unix sockets in it."""
    return tmp_path_factory.mktemp("bad")


def tried(
    folder: Path, *command: str, value: str = "1.0", strategy: str = "FedAvg"
) -> subprocess.CompletedProcess[str]:
    app = write_app(
        folder / "app",
        "bad",
        {"app": APP.format(value=value, strategy=strategy)},
        server="app:server",
        client="app:client",
        config=f"num-server-rounds = {ROUNDS}",
    )
    given = ["--app", str(app), "--peers", str(PEERS), "--report", str(folder / "report")]
    return subprocess.run(
        [sys.executable, "-m", "smpcfl", *command, *given],
        env={**os.environ, "FLWR_TELEMETRY_ENABLED": "0", "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


def test_an_app_that_fails_on_every_peer_ends_the_demo_in_its_first_round(folder: Path) -> None:
    demo = tried(folder, "demo", value="{}['num-patients']")
    assert demo.returncode == 1, demo.stdout + demo.stderr
    assert f"smpcfl demo: training failed on all {PEERS} peers in round 1," in demo.stderr
    assert demo.stderr.count("Traceback (most recent call last):") == 1, demo.stderr
    assert demo.stderr.splitlines().count("KeyError: 'num-patients'") == 1, demo.stderr
    assert f"round 1/{ROUNDS}  seeded    void: " in demo.stdout
    assert f"round 2/{ROUNDS}" not in demo.stdout


def test_a_strategy_that_cannot_work_is_refused_before_anything_is_trained(folder: Path) -> None:
    compare = tried(folder, "compare", "--modes", "normal,seeded", strategy="Krum")
    assert compare.returncode == 1, compare.stdout + compare.stderr
    first, *rest = compare.stderr.splitlines()
    why = "Krum looks at single updates, which nobody sees here"
    assert first.startswith(f"smpcfl compare: the run failed after 0 of {ROUNDS} rounds: {why}")
    assert "use a strategy that averages, such as FedAvg" in first
    assert [line.partition(":")[0] for line in rest] == ["all logs"], (
        "nothing of Flower's around it"
    )
    assert "round 1/" not in compare.stdout, "not even the plain way"
