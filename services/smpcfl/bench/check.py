"""Whether a measured ratio is still the committed one: a kernel that became slower is to be noticed.

Ratios alone, of sides that were measured in turn: how fast the machine is has no part in it.
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..protocol.errors import LocalError
from .measured import Measured

BEYOND = 4 / 3
# Another program may disturb one side more than the other, but hardly three times in a row.
ATTEMPTS = 3


def committed(short: bool) -> Path:
    """What `smpcfl bench --json` wrote when the figures were last committed."""
    return Path(str(files(__package__))) / "committed" / ("short.json" if short else "full.json")


def read(file: Path) -> dict[str, Any]:
    """The cases in a file that `smpcfl bench --json` wrote. LocalError if it is none."""
    try:
        return dict(json.loads(file.read_text(encoding="utf-8"))["cases"])
    except OSError as error:
        raise LocalError(f"cannot read {file} ({error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise LocalError(f"{file} is not what `smpcfl bench --json` writes") from error


def kept_ratio(cases: dict[str, Any], name: str, found: Measured) -> float:
    """The one to compare with. LocalError where there is none for the same work."""
    kept = cases.get(name)
    if kept is None or kept["work"] != found.work:
        raise LocalError(
            f"no ratio of {name!r} is committed for this work ({found.work}): measure it with"
            " `smpcfl bench --json FILE`, with --short for the short form, and compare with --against FILE"
        )
    return float(kept["ratio"])


def beyond(found: Measured, kept: float) -> bool:
    """Whether its ratio is a third above the one that was kept, or more."""
    return found.ratio is not None and found.ratio > kept * BEYOND


def verdict(name: str, found: Measured, kept: float) -> str:
    """What to say of it, in one line."""
    assert found.ratio is not None
    said = f"{name}: here / {found.base} is {found.ratio:.2f}, committed {kept:.2f}"
    if beyond(found, kept):
        return f"{said}: worse by {found.ratio / kept - 1:.0%}"
    if found.ratio * BEYOND < kept:
        return (
            f"{said}: better by {1 - found.ratio / kept:.0%}; commit it, or it can be lost unseen"
        )
    return f"{said}: as before"


REMEDY = (
    "What is worse by more than a third in each of three measurements is worse because of the code, not the"
    " machine: look at what changed. If it is meant, commit new figures (docs/benchmarks.md says how)."
)
