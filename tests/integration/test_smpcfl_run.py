"""`smpcfl run`, `stop` and `runs`, and Flower's own commands, on one running stack that has no run yet."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from smpcfl.aggregator import rounds_service
from smpcfl.base.state import State
from smpcfl.cli.stack import Stack
from smpcfl.daemons.allowed_apps import hash_of
from smpcfl.flower.client.app_process import NO_MOD
from support.app_folder import write_app
from support.processes import option

pytestmark = pytest.mark.processes
PEERS = 3
APP = """\
import time
import numpy as np
import smpcfl.flower
from flwr.app import Array, ArrayRecord
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

client = ClientApp(mods={mods})
server = ServerApp()


@client.train()
def train(message, context):
    print("train " + "was run", flush=True)
    raise ValueError("no such " + "column")  # in pieces: the app is at the aggregator too


@server.main()
def main(grid, context):
    print("hello from the app", flush=True)
    if {waits}:
        time.sleep(600)
    strategy = smpcfl.flower.SecureStrategy(FedAvg(fraction_evaluate=0.0), min_peers=3)
    strategy.start(grid, ArrayRecord({{"w": Array(np.zeros(8))}}), num_rounds={rounds})
"""


def an_app(
    folder: Path, name: str, *, waits: bool = False, mods: str = "[]", rounds: int = 2
) -> Path:
    modules = {"app": APP.format(waits=waits, mods=mods, rounds=rounds)}
    return write_app(folder / name, name, modules, server="app:server", client="app:client")


class Operator:
    """At the aggregator's machine."""

    def __init__(self, stack: Stack, apps: Path) -> None:
        self.apps = apps
        self.stack = stack
        self._state = stack.folder / "aggregator"
        self._port = str(option(stack, "aggregator", "--superlink-port"))
        self._environment = {**os.environ, "FLWR_HOME": str(State(self._state).flower_cli)}

    def command(self, command: str, *more: str) -> list[str]:
        here = ["--state", str(self._state), "--superlink-port", self._port]
        return [sys.executable, "-m", "smpcfl", command, *here, *more]

    def smpcfl(self, command: str, *more: str) -> subprocess.CompletedProcess[str]:
        return self._run(self.command(command, *more))

    def flwr(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self._run([str(Path(sys.executable).with_name("flwr")), *words])

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    folder = tmp_path_factory.mktemp("run")
    an_app(folder, "waiting", waits=True)
    masking = {"mods": "[smpcfl.flower.secure_mod]", "rounds": 6}
    apps = an_app(folder, "forgetful"), an_app(folder, "failing", **masking)
    allowed = ",".join(map(hash_of, apps))
    with Stack(folder / "stack", "seeded", PEERS, 0, 1, allowed) as stack:
        started = State(stack.folder / "aggregator").superlink
        stack.wait(
            lambda: (
                started.exists()
                and all("data slice" in stack.log(f"peer-{n}") for n in range(PEERS))
            ),
            120,
            "the start",
        )
        yield Operator(stack, folder)


def test_an_interrupted_run_goes_on_until_it_is_stopped(operator: Operator) -> None:
    app = str(operator.apps / "waiting")
    run = subprocess.Popen(
        operator.command("run", "--app", app),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert run.stdout is not None
        assert any("hello from the app" in line for line in run.stdout), "as it is printed"
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=120)
    finally:
        run.kill()
    assert run.returncode == 130
    assert "goes on: " in said
    refused = operator.smpcfl("run", "--app", app)
    assert refused.returncode == 1
    assert "is still going (0 of 2 rounds)" in refused.stderr
    assert "end it with `smpcfl stop`" in refused.stderr
    stopped = operator.smpcfl("stop")
    assert stopped.returncode == 0, stopped.stderr
    assert "stopped after 0 of 2 rounds" in stopped.stdout
    assert " stopped " in operator.smpcfl("runs").stdout


def test_flowers_own_commands_work_on_the_aggregators_machine(operator: Operator) -> None:
    started = operator.flwr("run", str(operator.apps / "waiting"), "--format", "json")
    assert started.returncode == 0, started.stdout + started.stderr
    run = json.loads(started.stdout)["run-id"]
    listed = json.loads(operator.flwr("ls", "--format", "json").stdout)["runs"]
    assert run in [item["run-id"] for item in listed]
    stopped = operator.flwr("stop", run)
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    shown = operator.flwr("log", run, "--show")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert f"{run}\n" in operator.smpcfl("runs").stdout


def test_a_forgotten_mod_ends_the_run_by_name(operator: Operator) -> None:
    run = operator.smpcfl("run", "--app", str(operator.apps / "forgetful"))
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].endswith(f"all {PEERS} peers refuse: {NO_MOD}")
    assert f"peers refuse: {NO_MOD}" in run.stdout
    folders = [operator.stack.folder / f"peer-{n}" for n in range(PEERS)]
    logs = [State(folder).log("supernode").read_text() for folder in folders]
    assert not [log for log in logs if "train was run" in log]


def test_an_app_that_fails_on_every_peer_ends_the_run_after_two_rounds(operator: Operator) -> None:
    run = operator.smpcfl("run", "--app", str(operator.apps / "failing"))
    assert run.returncode == 1, run.stdout + run.stderr
    last = run.stderr.splitlines()[-1]
    assert (
        "the first 2 rounds are void, the last one: too_few_contributors: training failed on"
        in last
    )
    assert "docker compose logs peer" in last
    records = rounds_service.read(operator.stack.records)
    assert [(record.round, record.outcome) for record in records] == [(1, "void"), (2, "void")]
    folders = [operator.stack.folder / f"peer-{n}" for n in range(PEERS)]
    for log in [State(folder).log("supernode").read_text() for folder in folders]:
        assert "ValueError: no such column" in log, "where the peer's operator sees it"
    seen = run.stdout + run.stderr + operator.stack.log("aggregator")
    assert "no such column" not in seen, "it left the peer"


def test_an_app_that_no_peer_allows_ends_the_run_and_says_what_changed(operator: Operator) -> None:
    app = operator.apps / "forgetful"
    with (app / "forgetful" / "app.py").open("a") as file:
        file.write("# more\n")
    run = operator.smpcfl("run", "--app", str(app))
    assert run.returncode == 1
    why = f"this peer does not run app {hash_of(app)}: its operator allows it with SMPCFL_APPS"
    assert run.stderr.splitlines()[-1].endswith(f"all {PEERS} peers refuse: {why}")
    assert "since its last run here: forgetful/app.py changed" in run.stdout
