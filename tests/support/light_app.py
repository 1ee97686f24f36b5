"""An app that starts in a second, for tests to which it is all the same what is trained."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from smpcfl.cli.stack import Stack
from support.app_folder import write_app
from support.processes import option

_APP = """
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
    arrays = message.content["arrays"]
    trained = ArrayRecord({{name: Array(array.numpy() + 1.0) for name, array in arrays.items()}})
    metrics = MetricRecord({{"num-examples": 10, "loss": 0.5}})
    return Message(RecordDict({{"arrays": trained, "metrics": metrics}}), reply_to=message)


@server.main()
def main(grid, context):
    strategy = smpcfl.flower.SecureStrategy(FedAvg(fraction_evaluate=0.0), seed=1)
    initial = ArrayRecord({{"w": Array(np.zeros({size}))}})
    strategy.start(grid, initial, num_rounds={rounds})
"""


def light_app(folder: Path, rounds: int, size: int = 8) -> Path:
    """Its model is `size` numbers, of which each gains one a round; nothing is evaluated."""
    source = _APP.format(rounds=rounds, size=size)
    return write_app(folder, "light", {"app": source}, server="app:server", client="app:client")


@contextmanager
def running(stack: Stack, app: Path) -> Iterator[None]:
    """`smpcfl run --app` on a stack that allows the app. What it prints is in the stack's `run.log`."""
    state = stack.folder / "aggregator"
    stack.wait((state / "superlink.db").exists, 240, "the SuperLink")
    command = [sys.executable, "-m", "smpcfl", "run", "--app", str(app), "--state", str(state)]
    command += ["--superlink-port", str(option(stack, "aggregator", "--superlink-port"))]
    environment = {**os.environ, "FLWR_TELEMETRY_ENABLED": "0"}
    with (stack.folder / "run.log").open("wb") as output:
        run = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        try:
            yield
        finally:
            run.kill()
            run.wait()
