"""The training run that an aggregator has in hand, in `training.json` of its state folder.

Flower does not go on with a run whose ServerApp died; another Flower run takes its place. So a run
has a number of its own here, and the id of the Flower run that carries it at present.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

from ..base.files import write_private
from ..protocol.errors import LocalError
from .flower_runs import Runs

COMPLETED, STOPPED, FAILED = "completed", "stopped", "failed"
_POLL_S = 0.1
_KINDS = {"run": int, "config": dict, "first": dict}  # of the members that are no text


@dataclass(frozen=True)
class Training:
    """`ended` is empty while the run goes on. One that failed is tried again at the next start."""

    app: str
    config: Mapping[str, int | float | str | bool]
    run: int = field(default_factory=lambda: secrets.randbits(63))
    flower_run: str = ""
    """Empty while it is being submitted."""
    ended: str = ""
    reason: str = ""
    """Why it failed."""
    mode: str = ""
    """The deployment's. `smpcfl run` leaves it to the aggregator."""
    first: Mapping[str, int | str] = field(default_factory=dict)
    """The settings that make a first run, when that was last thought of; empty if not known."""

    @property
    def over(self) -> bool:
        return self.ended in (COMPLETED, STOPPED)

    def __str__(self) -> str:
        rounds = self.config.get("num-rounds")
        about = [f"{rounds} rounds"] if rounds is not None else []
        about += [f"mode {self.mode}"] if self.mode else []
        return f"run {self.run} ({', '.join(about)})" if about else f"run {self.run}"


def load(path: Path) -> Training | None:
    """None if there was none yet. LocalError for a file that is not ours."""
    try:
        found = Training(**json.loads(path.read_bytes()))
        for item in fields(Training):
            value = getattr(found, item.name)
            if type(value) is not _KINDS.get(item.name, str):
                raise TypeError(f"{item.name} is {value!r}")
        return found
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, RecursionError) as error:
        raise LocalError(
            f"{path} is unreadable ({error}): remove it to give up the run that it stands for"
        ) from error


def save(path: Path, training: Training) -> None:
    write_private(path, json.dumps(asdict(training), indent=1).encode())


async def submit(runs: Runs, path: Path, training: Training) -> Training:
    """Hands the run to Flower; LocalError if it is refused. Kept before and after, in case of a crash."""
    training = replace(training, flower_run="", ended="", reason="")
    save(path, training)
    training = replace(training, flower_run=await runs.start(Path(training.app), training.config))
    save(path, training)
    return training


def of_flower_run(path: Path, flower_run: str, patience_s: float = 30.0) -> Training | None:
    """For the ServerApp: the run that this Flower run carries; None if it is not one of ours.

    A ServerApp may be up before its Flower run's id is known here, so this waits for it.
    """
    latest = time.monotonic() + patience_s
    while (training := load(path)) is not None:
        if training.flower_run == flower_run:
            return training
        if training.flower_run or training.ended or time.monotonic() >= latest:
            return None
        time.sleep(_POLL_S)
    return None
