"""What each process of a real stack needs at its peak, in mode normal (plain Flower) and seeded, in turn.

    python benchmarks/memory.py
    python benchmarks/memory.py --peers 3 --parameters 100000000 --rounds 1

`smpcfl demo` runs the app of simulation.py: real SuperLink, SuperNodes and agents. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from simulation import SECURE, write_app
from smpcfl.daemons.supervisor import descendants

# By what stands in the command line; the first that does.
KINDS = {
    "flwr-serverapp": "ServerApp",
    "smpcfl.flower.client.app_process": "ClientApp",
    "flower-superlink": "SuperLink",
    "flower-supernode": "SuperNode",
    "smpcfl peer": "agent",
    "smpcfl aggregator": "aggregator",
}


def kind_of(pid: int) -> str:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    line = " ".join(Path(word).name if word.startswith("/") else word for word in words)
    line = line.replace("python -m ", "")
    return next((kind for text, kind in KINDS.items() if text in line), "")


def peak_of(pid: int) -> int:
    """Bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def measure(mode: str, options: argparse.Namespace) -> tuple[dict[str, int], float]:
    """The largest peak of each kind of process, and seconds a round."""
    found: dict[str, int] = defaultdict(int)
    with tempfile.TemporaryDirectory() as kept:
        folder = Path(kept)
        write_app(folder / "app", SECURE, options)
        command = [sys.executable, "-m", "smpcfl", "demo", "--app", str(folder / "app")]
        command += ["--peers", str(options.peers), "--rounds", str(options.rounds)]
        command += ["--mode", mode, "--report", str(folder / "report")]
        log = folder / "log.txt"
        own = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_HOME": str(folder / "flower")}
        with log.open("w") as output:
            process = subprocess.Popen(
                command, cwd=folder, env={**os.environ, **own}, stdout=output, stderr=output
            )
            while process.poll() is None:
                for pid in descendants(process.pid):
                    try:
                        kind = kind_of(pid)
                        found[kind] = max(found[kind], peak_of(pid))
                    except (OSError, StopIteration):
                        pass  # it has ended
                time.sleep(0.05)
        if process.returncode:
            sys.exit(f"{' '.join(command)}\n{log.read_text()[-4000:]}")
        report = json.loads((folder / "report/report.json").read_text())
        measured = report["modes"][mode]
        assert measured["outcome"] == ["complete"] * options.rounds, measured["outcome"]
        seconds = measured["round_seconds"]
    return found, sum(seconds) / len(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", type=int, default=4)
    parser.add_argument("--parameters", type=int, default=11_700_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--modes", nargs="+", default=["normal", "seeded"])
    options = parser.parse_args()
    options.evaluate = 0.0
    kinds = list(dict.fromkeys(KINDS.values()))
    print("| mode | " + " | ".join(kinds) + " | s a round |")
    print("| --- |" + " ---: |" * (len(kinds) + 1), flush=True)
    for mode in options.modes:
        found, seconds = measure(mode, options)
        cells = [f"{found[kind] / 1e6:,.0f} MB" for kind in kinds]
        print(f"| {mode} | " + " | ".join(cells) + f" | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
