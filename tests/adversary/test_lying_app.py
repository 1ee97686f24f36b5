"""A ServerApp that lies, on a real SuperLink, to peers whose operators allowed its app."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from smpcfl.aggregator import rounds_service
from smpcfl.cli.stack import Stack
from smpcfl.daemons.allowed_apps import hash_of
from smpcfl.protocol.errors import Reason
from support.app_folder import write_app
from support.processes import option

PEERS = 3
RAN = "runs.txt"

CLIENT = """
from pathlib import Path

from flwr.app import ArrayRecord, MetricRecord, Message, RecordDict, Array
from flwr.clientapp import ClientApp

from smpcfl.flower import secure_mod

app = ClientApp(mods=[secure_mod])


@app.train()
def train(message, context):
    with (Path(context.run_config["folder"]) / "runs.txt").open("a") as ran:
        ran.write("ran\\n")
    given = message.content["arrays"]
    arrays = ArrayRecord({name: Array(array.numpy() + 1) for name, array in given.items()})
    metrics = MetricRecord({"num-examples": 10, "loss": 1.0})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)
"""

SERVER = """
import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

from smpcfl.flower import SecureStrategy
from smpcfl.flower.server.clipping import Clipping
from smpcfl.flower.server.secure_grid import SecureGrid
from smpcfl.flower.server.secure_round import SecureRound

app = ServerApp()
attach = SecureRound.attach


def lie(self, messages, seed):
    attach(self, messages, seed)
    number = self.signed.ticket.round
    for place, message in enumerate(messages):
        content = RecordDict(dict(message.content.items()))
        if number == 1:  # a model of its own for each peer
            content["arrays"] = ArrayRecord({"w": Array(np.full(8, 1.0 + place, np.float32))})
        if number == 3:  # and a configuration of its own
            content["config"] = ConfigRecord({**content["config"], "local-epochs": place})
        message.content = content


ask = SecureGrid._sum


def lie_about_limits(self, task, messages, content):
    self.clipping = Clipping(clip=1e-30) if self.number == 2 else Clipping()
    return ask(self, task, messages, content)


def go_on(self, reason):
    text = next(iter(self._refusals.values()))
    self.outcome.reason = f"{reason}; {len(self._refusals)} of {self.outcome.cohort} peers refused: {text}"
    return self.outcome


@app.main()
def main(grid, context):
    SecureRound.attach = lie
    SecureRound.void = go_on  # an honest one ends where all refuse
    SecureGrid._sum = lie_about_limits
    inner = FedAvg(fraction_evaluate=0.0, min_train_nodes=3, min_available_nodes=3)
    initial = ArrayRecord({"w": Array(np.zeros(8, np.float32))})
    config = ConfigRecord({"local-epochs": 7})
    SecureStrategy(inner, min_peers=3).start(grid, initial, num_rounds=4, train_config=config)
"""


def written(folder: Path) -> Path:
    """The app, in a folder that is also where its ClientApps note that they ran."""
    return write_app(
        folder / "app",
        "lying",
        {"client_app": CLIENT, "server_app": SERVER},
        server="server_app:app",
        client="client_app:app",
        config=f'folder = "{folder}"',
    )


@pytest.mark.processes
def test_a_lying_server_app_is_refused_by_every_peer_before_its_app_runs(tmp_path: Path) -> None:
    app = written(tmp_path)
    stack = Stack(tmp_path / "stack", "seeded", PEERS, 0, 1, hash_of(app))
    (tmp_path / "stack").mkdir()
    with stack:
        aggregator = tmp_path / "stack" / "aggregator"
        stack.wait(lambda: (aggregator / "superlink.db").exists(), 120, "the SuperLink's start")
        command = [sys.executable, "-m", "smpcfl", "run", "--app", str(app)]
        command += ["--state", str(aggregator)]
        command += ["--superlink-port", str(option(stack, "aggregator", "--superlink-port"))]
        run = subprocess.run(
            command, env=dict(os.environ), capture_output=True, text=True, timeout=280, check=False
        )
        assert run.returncode == 0, run.stdout + run.stderr + stack.log("aggregator")
        *lies, honest = rounds_service.read(stack.records)
        reasons = [Reason.MODEL_MISMATCH, Reason.POLICY_RANGE, Reason.CONFIG_MISMATCH]
        for record, reason in zip(lies, reasons, strict=True):
            assert record.outcome == "void"
            assert f"{PEERS} of {PEERS} peers refused: {reason}" in record.reason
        for number in range(PEERS):
            log = stack.log(f"peer-{number}")
            assert [log.count(f"refused: {reason}") for reason in reasons] == [1, 1, 1], log
        # The fourth round is an honest one, and the first in which anything runs.
        assert honest.outcome == "complete", honest.reason
        assert (tmp_path / RAN).read_text().splitlines() == ["ran"] * PEERS
