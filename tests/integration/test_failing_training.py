"""A peer whose training fails in every round: the others go on, and why stays on that peer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from smpcfl.aggregator import rounds_service
from smpcfl.cli.stack import Stack
from smpcfl.daemons.allowed_apps import hash_of
from support.app_folder import write_app
from support.processes import option

PEERS, ROUNDS = 5, 2
SECRET = "12345 patients of ward 7"

APP = f"""
import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

import smpcfl.flower

client = ClientApp(mods=[smpcfl.flower.secure_mod])
server = ServerApp()


@client.train()
def train(message, context):
    if context.node_config["partition-id"] == 0:
        raise ValueError(" ".join({SECRET.split()!r}))  # in pieces: the app is at the aggregator too
    given = message.content["arrays"]
    arrays = ArrayRecord({{name: Array(array.numpy() + 1.0) for name, array in given.items()}})
    metrics = MetricRecord({{"num-examples": 10, "loss": 0.5}})
    return Message(RecordDict({{"arrays": arrays, "metrics": metrics}}), reply_to=message)


@server.main()
def main(grid, context):
    strategy = smpcfl.flower.SecureStrategy(FedAvg(fraction_evaluate=0.0))
    initial = ArrayRecord({{"w": Array(np.zeros(8))}})
    result = strategy.start(grid, initial, num_rounds=int(context.run_config["num-server-rounds"]))
    print("model", result.arrays["w"].numpy().round(2).tolist(), flush=True)
"""


@pytest.mark.processes
def test_the_others_go_on_and_the_reason_stays_on_the_peer(tmp_path: Path) -> None:
    app = write_app(
        tmp_path / "app", "failing", {"app": APP}, server="app:server", client="app:client"
    )
    stack = Stack(tmp_path / "stack", "seeded", PEERS, 0, 1, hash_of(app))
    with stack:
        stack.wait(
            lambda: all("data slice" in stack.log(f"peer-{n}") for n in range(PEERS)), 120, "peers"
        )
        state = stack.folder / "aggregator"
        stack.wait((state / "superlink.db").exists, 120, "the SuperLink")
        run = subprocess.run(
            [
                *(sys.executable, "-m", "smpcfl", "run", "--app", str(app)),
                *("--state", str(state)),
                *("--superlink-port", str(option(stack, "aggregator", "--superlink-port"))),
            ],
            env={**os.environ, "FLWR_TELEMETRY_ENABLED": "0"},
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        found = rounds_service.read(stack.records)
        logs = {n: stack.log(f"peer-{n}") for n in range(PEERS)}
    assert run.returncode == 0, run.stdout + run.stderr
    assert [(r.outcome, r.survivors, r.contributors) for r in found] == [
        ("complete", PEERS, PEERS - 1)
    ] * ROUNDS
    assert "training failed on 1" in run.stdout
    assert {n for n, log in logs.items() if SECRET in log} == {0}, "as its data slice"
    reached = [
        path for path in state.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()
    ]
    assert not reached, "the reason left the peer"
    assert SECRET not in stack.log("aggregator") + run.stdout + run.stderr
