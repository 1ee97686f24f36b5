"""Repeated measurements with `time.perf_counter`, and the machine that they were taken on."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import perf_counter

LEAST_RUNS = 5


@dataclass(frozen=True)
class Timing:
    """The median of `runs` runs, in seconds."""

    median_s: float
    runs: int


def measure(function: Callable[[], object], seconds: float) -> Timing:
    """Calls `function` once to warm up, then for `seconds`, at least `LEAST_RUNS` times."""
    function()
    taken: list[float] = []
    end = perf_counter() + seconds
    while len(taken) < LEAST_RUNS or perf_counter() < end:
        began = perf_counter()
        function()
        taken.append(perf_counter() - began)
    return Timing(median(taken), len(taken))


def machine() -> dict[str, object]:
    """What a figure depends on: platform, processor, other work (load of one minute), versions."""
    return {
        "platform": platform.platform(),
        "cpu": cpu_model(),
        "cpu_count": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "cryptography": version("cryptography"),
    }


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name where the system shows it, else its architecture."""
    try:
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
