"""What security costs in Flower's simulation engine: one app with and without our lines, in turn.

    python benchmarks/simulation.py
    python benchmarks/simulation.py --peers 10000 --parameters 10 --rounds 2 --only secure

The app is written here twice: plain Flower, and with `secure_mod` and `SecureStrategy`. Its training is a few
additions, so what is measured is the engine, Ray and the protocol. Both runs have to come to the same model.
Needs Ray: pip install 'smpcfl[simulation]'.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from smpcfl.daemons.supervisor import descendants

PROJECT = """
[project]
name = "adding"
version = "1.0.0"
description = "Adds what the partition gives"
license = "MIT"

[tool.flwr.app]
publisher = "benchmark"

[tool.flwr.app.components]
serverapp = "adding.app:server"
clientapp = "adding.app:client"

[tool.flwr.app.config]
num-server-rounds = {rounds}
"""
APP = """
import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
{imports}
client = ClientApp({mods})
server = ServerApp()


@client.train()
def train(message, context):
    model = message.content["arrays"]["model"].numpy()
    step = np.float32(context.node_config["partition-id"] % 10) / np.float32(10)
    arrays = ArrayRecord({{"model": Array(model + step)}})
    metrics = MetricRecord({{"num-examples": 100}})
    return Message(RecordDict({{"arrays": arrays, "metrics": metrics}}), reply_to=message)


@client.evaluate()
def evaluate(message, context):
    metrics = MetricRecord({{"num-examples": 100, "loss": 0.5}})
    return Message(RecordDict({{"metrics": metrics}}), reply_to=message)


@server.main()
def main(grid, context):
    strategy = {strategy}(FedAvg(fraction_evaluate={evaluated}, min_available_nodes={peers}))
    initial = ArrayRecord({{"model": Array(np.zeros({parameters}, np.float32))}})
    rounds = context.run_config["num-server-rounds"]
    result = strategy.start(grid, initial, num_rounds=rounds)
    np.save("model.npy", result.arrays["model"].numpy())
"""
PLAIN = {"imports": "", "mods": "", "strategy": ""}
SECURE = {
    "imports": "\nfrom smpcfl.flower import SecureStrategy, secure_mod\n",
    "mods": "mods=[secure_mod]",
    "strategy": "SecureStrategy",
}


@dataclass(frozen=True)
class Measured:
    """Of one run. `peak`: bytes of all its processes together, what they share counted once."""

    seconds: float
    peak: int
    model: np.ndarray


def write_app(folder: Path, lines: dict[str, str], options: argparse.Namespace) -> None:
    package = folder / "adding"
    package.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(PROJECT.format(rounds=options.rounds))
    (package / "__init__.py").touch()
    given = {
        "peers": options.peers,
        "parameters": options.parameters,
        "evaluated": options.evaluate,
    }
    (package / "app.py").write_text(APP.format(**lines, **given))


def plain(folder: Path, peers: int) -> list[str]:
    """The engine as `smpcfl simulate` starts it, without anything of ours in the app."""
    engine = [sys.executable, "-m", "smpcfl.simulation.engine"]
    return [*engine, str(folder / "app"), str(peers), "{}"]


def secure(folder: Path, peers: int) -> list[str]:
    command = [sys.executable, "-m", "smpcfl", "simulate", "--app", str(folder / "app")]
    return [*command, "--peers", str(peers), "--report", str(folder / "report")]


def run(command: list[str], folder: Path) -> tuple[float, int]:
    """Seconds, and the peak of memory. Ends with the run's log if that fails."""
    log = folder / "log.txt"
    own = {
        "FLWR_TELEMETRY_ENABLED": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "FLWR_HOME": str(folder / "flower"),
    }
    start, peak = time.perf_counter(), 0
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **own}, stdout=output, stderr=output
        )
        while process.poll() is None:
            peak = max(peak, memory([process.pid, *descendants(process.pid)]))
            time.sleep(1.0)
    if process.returncode:
        sys.exit(f"{' '.join(command)}\n{log.read_text()[-4000:]}")
    return time.perf_counter() - start, peak


def memory(pids: list[int]) -> int:
    """Bytes that these processes have together, as Linux counts them."""
    total = 0
    for pid in pids:
        try:
            rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue  # it has ended
        total += sum(int(row.split()[1]) * 1024 for row in rows if row.startswith("Pss:"))
    return total


def measure(name: str, options: argparse.Namespace) -> Measured:
    lines, command = {"plain": (PLAIN, plain), "secure": (SECURE, secure)}[name]
    with tempfile.TemporaryDirectory() as kept:
        folder = Path(kept)
        write_app(folder / "app", lines, options)
        seconds, peak = run(command(folder, options.peers), folder)
        found = next(folder.rglob("model.npy"))
        if name == "secure":
            report = json.loads((folder / "report/report.json").read_text())
            outcomes = report["modes"]["seeded"]["outcome"]
            assert outcomes == ["complete"] * options.rounds, outcomes
        return Measured(seconds, peak, np.load(found))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", type=int, default=1000)
    parser.add_argument("--parameters", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=1, help="of each, in turn [1]")
    parser.add_argument(
        "--evaluate", type=float, default=0.0, help="share of peers that evaluate [0]"
    )
    parser.add_argument("--only", choices=("plain", "secure"), help="only one of the two")
    options = parser.parse_args()
    print("| app | seconds | peak of memory |\n| --- | ---: | ---: |", flush=True)
    for _ in range(options.runs):
        models = []
        for name in [options.only] if options.only else ["plain", "secure"]:
            found = measure(name, options)
            models.append(found.model)
            print(f"| {name} | {found.seconds:.0f} | {found.peak / 1e9:.1f} GB |", flush=True)
        apart = float(np.abs(models[0] - models[-1]).max())
        assert apart < 0.01 * options.rounds, f"the two models are {apart} apart"


if __name__ == "__main__":
    main()
