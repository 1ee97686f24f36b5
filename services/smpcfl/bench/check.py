"""Whether a measured ratio is still the committed one: a kernel that became slower is to be noticed.

Ratios alone, of sides that were measured in turn: how fast the machine is has no part in it. Its balance of
AES, memory and arithmetic has: on another processor than that of the committed figures more is let through.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..protocol.errors import LocalError
from .measured import Measured
from .timing import cpu_model

BEYOND = 4 / 3
BEYOND_ELSEWHERE = 2.0
# Another program may disturb one side more than the other, but hardly three times in a row.
ATTEMPTS = 3


@dataclass(frozen=True)
class Kept:
    """What a file that `smpcfl bench --json` wrote says: its cases, and the processor that they are of."""

    cases: dict[str, Any]
    cpu: str

    @property
    def elsewhere(self) -> bool:
        """Whether this is another processor."""
        return self.cpu != cpu_model()

    @property
    def beyond(self) -> float:
        """A ratio so many times as large as the one that was kept is too large."""
        return BEYOND_ELSEWHERE if self.elsewhere else BEYOND


def committed(short: bool) -> Path:
    """What `smpcfl bench --json` wrote when the figures were last committed."""
    return Path(str(files(__package__))) / "committed" / ("short.json" if short else "full.json")


def read(file: Path) -> Kept:
    """LocalError if `smpcfl bench --json` did not write it."""
    try:
        members = json.loads(file.read_text(encoding="utf-8"))
        return Kept(dict(members["cases"]), str(members["machine"]["cpu"]))
    except OSError as error:
        raise LocalError(f"cannot read {file} ({error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise LocalError(f"{file} is not what `smpcfl bench --json` writes") from error


def kept_ratio(file: Kept, name: str, found: Measured) -> float:
    """The one to compare with. LocalError where there is none for the same work."""
    kept = file.cases.get(name)
    if kept is None or kept["work"] != found.work:
        raise LocalError(
            f"no ratio of {name!r} is committed for this work ({found.work}): measure it with"
            " `smpcfl bench --json FILE`, with --short for the short form, and compare with --against FILE"
        )
    return float(kept["ratio"])


def is_beyond(found: Measured, kept: float, factor: float) -> bool:
    """Whether its ratio is more than `factor` times the one that was kept."""
    return found.ratio is not None and found.ratio > kept * factor


def verdict(name: str, found: Measured, kept: float, factor: float) -> str:
    """What to say of it, in one line."""
    assert found.ratio is not None
    said = f"{name}: here / {found.base} is {found.ratio:.2f}, committed {kept:.2f}"
    if is_beyond(found, kept, factor):
        return f"{said}: worse by {found.ratio / kept - 1:.0%}"
    if found.ratio * factor < kept:
        return (
            f"{said}: better by {1 - found.ratio / kept:.0%}; commit it, or it can be lost unseen"
        )
    return f"{said}: as before"


REMEDY = (
    "What is worse by so much in each of three measurements is worse because of the code, not of other work"
    " on the machine: look at what changed. If it is meant, commit new figures (docs/benchmarks.md says how)."
)
