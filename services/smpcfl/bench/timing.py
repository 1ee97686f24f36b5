"""Measurements in turn, so that what disturbs one side disturbs all, and the machine they were taken on."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter

Say = Callable[[str], None]


@dataclass(frozen=True)
class Spread:
    """The median, and between which two the middle half of the values lies."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        found = list(values)
        if len(found) == 1:
            return cls(found[0], found[0], found[0])
        low, middle, high = quantiles(found, n=4, method="inclusive")
        return cls(middle, low, high)


def in_turn(
    works: Mapping[str, Callable[[], object]], turns: int, say: Say
) -> dict[str, list[float]]:
    """Seconds of each work: once all of them to warm up, then A, B, A, B for `turns` turns."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(turns + 1):
        say(f"turn {turn} of {turns}" if turn else "warming up")
        for name, work in works.items():
            began = perf_counter()
            work()
            if turn:
                taken[name].append(perf_counter() - began)
    return taken


def ratio_of(over: Iterable[float], under: Iterable[float]) -> float:
    """The median of the turns' own ratios: what slowed one turn is in both."""
    return median(one / other for one, other in zip(over, under, strict=True))


def machine() -> dict[str, object]:
    """What a figure depends on: platform, processor, other work (load of one minute), versions."""
    return {
        "platform": platform.platform(),
        "cpu": cpu_model(),
        "cpu_count": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        **{name: version(name) for name in ("numpy", "cryptography", "flwr")},
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
