"""What registry, aggregator and peers need, against the number of peers and of the model's parameters.

    python benchmarks/sizing.py
    python benchmarks/sizing.py --peers 4 8 --parameters 100000 1000000 --rounds 3

Real stacks as local processes, mode seeded, with the app of simulation.py, whose training is one addition.
One axis at a time: all `--peers` with the first of `--parameters`, and the other way round. Linux only.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from memory import kind_of, peak_of

from simulation import SECURE, write_app
from smpcfl.aggregator import rounds_service
from smpcfl.base.state import State
from smpcfl.cli.stack import Stack
from smpcfl.daemons.allowed_apps import hash_of
from smpcfl.daemons.supervisor import descendants

TICKS = os.sysconf("SC_CLK_TCK")
SERVICES = ("registry", "aggregator", "peer")
EXECUTOR = "executor"  # Flower's, which starts apps
KINDS = (
    *("registry", "aggregator", "SuperLink", "ServerApp", "agent", "SuperNode", "ClientApp"),
    EXECUTOR,
)
GROWING = {
    "aggregator": ("records.jsonl", "superlink.db", "ledger.sqlite", "log", "checkpoints"),
    "peer-0": ("ledger.sqlite", "log"),
}


@dataclass
class Measured:
    peers: int
    parameters: int
    peaks: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Bytes, the largest of each kind of process."""
    cpu: dict[str, float] = field(default_factory=dict)
    """Seconds a round, of a service with all that it started; of one peer."""
    sent: float = 0.0
    """Bytes a round, by and to one peer."""
    seconds: float = 0.0
    grown: dict[str, float] = field(default_factory=dict)
    """Bytes a round, by file."""


def cpu_of(root: int) -> float:
    """Seconds of a process and of all that it started, also of what has ended."""
    ticks = 0
    for pid in (root, *descendants(root)):
        try:
            words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended just now, and is with its parent next time
        ticks += sum(map(int, words[11:15]))
    return ticks / TICKS


def sizes(stack: Stack) -> dict[str, int]:
    found = {}
    for service, names in GROWING.items():
        for name in names:
            top = stack.folder / service / name
            # A database has its latest pages in files beside it.
            files = [*top.parent.glob(f"{name}*"), *top.rglob("*")]
            found[f"{service}: {name}"] = sum(f.stat().st_size for f in files if f.is_file())
    return found


class Watch:
    """Looks at all processes of a stack, again and again."""

    def __init__(self, stack: Stack, measured: Measured) -> None:
        self._stack = stack
        self._measured = measured
        self._roots = {name: process.pid for name, process in stack._processes.items()}

    def look(self) -> None:
        for name, root in self._roots.items():
            for pid in (root, *descendants(root)):
                try:
                    kind = kind_of(pid) or (name if pid == root else EXECUTOR)
                    peaks = self._measured.peaks
                    peaks[kind] = max(peaks[kind], peak_of(pid))
                except (OSError, StopIteration):
                    pass  # it has ended

    def cpu(self) -> dict[str, float]:
        found: dict[str, float] = dict.fromkeys(SERVICES, 0.0)
        for name, root in self._roots.items():
            found[name.partition("-")[0]] += cpu_of(root)
        return {**found, "peer": found["peer"] / self._measured.peers}


def measure(peers: int, parameters: int, rounds: int, folder: Path) -> Measured:
    measured = Measured(peers, parameters)
    app = folder / "app"
    options = argparse.Namespace(peers=peers, parameters=parameters, rounds=rounds, evaluate=0.0)
    write_app(app, SECURE, options)
    with Stack(folder / "stack", "seeded", peers, 0, 1, hash_of(app)) as stack:
        watch = Watch(stack, measured)
        state = State(folder / "stack/aggregator")
        stack.wait(state.superlink.exists, 240, "the SuperLink")
        command = [sys.executable, "-m", "smpcfl", "run", "--app", str(app)]
        command += ["--state", str(state.path), "--superlink-port", str(stack.superlink_port)]
        with (folder / "run.log").open("w") as output:
            run = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            known: list[tuple[dict[str, float], dict[str, int], float]] = []
            while len(known) < rounds:
                stack.check()
                watch.look()
                if len(rounds_service.read(stack.records)) > len(known):
                    known.append((watch.cpu(), sizes(stack), time.monotonic()))
                time.sleep(0.05)
        finally:
            run.kill()
            run.wait()
        records = rounds_service.read(stack.records)
    assert all(record.outcome == "complete" for record in records), records
    (cpu, size, began), (cpu_last, size_last, ended) = known[0], known[-1]
    between = rounds - 1
    measured.cpu = {name: (cpu_last[name] - cpu[name]) / between for name in SERVICES}
    measured.grown = {name: (size_last[name] - size[name]) / between for name in size}
    measured.seconds = (ended - began) / between
    last = records[-1]
    measured.sent = last.bytes_up + last.bytes_down + last.bytes_p2p
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--parameters", type=int, nargs="+", default=[10**5, 10**6, 10**7])
    parser.add_argument("--rounds", type=int, default=4)
    options = parser.parse_args()
    grid = [(peers, options.parameters[0]) for peers in options.peers]
    grid += [(options.peers[0], parameters) for parameters in options.parameters[1:]]
    columns = [*KINDS, *(f"{name} CPU" for name in SERVICES), "bytes of a peer", "s a round"]
    print("| peers | parameters | " + " | ".join(columns) + " |")
    print("|" + " ---: |" * (len(columns) + 2), flush=True)
    found: list[Measured] = []
    try:
        for peers, parameters in grid:
            with tempfile.TemporaryDirectory() as folder:
                one = measure(peers, parameters, options.rounds, Path(folder))
            found.append(one)
            cells = [f"{one.peaks[kind] / 1e6:,.0f} MB" for kind in KINDS]
            cells += [f"{one.cpu[name]:.2f} s" for name in SERVICES]
            cells += [f"{one.sent:,.0f}", f"{one.seconds:.1f}"]
            print(f"| {peers} | {parameters:,} | " + " | ".join(cells) + " |", flush=True)
    finally:  # what there is, also after Ctrl-C
        print_growth(found)


def print_growth(found: list[Measured]) -> None:
    runs = [f"{one.peers} x {one.parameters:,}" for one in found]
    print("\n| bytes a round | " + " | ".join(runs) + " |")
    print("| --- |" + " ---: |" * len(runs))
    for name in found[0].grown if found else ():
        print(f"| {name} | " + " | ".join(f"{one.grown[name]:,.0f}" for one in found) + " |")


if __name__ == "__main__":
    main()
