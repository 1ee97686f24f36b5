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

COMPLETED, STOPPED, FAILED = "completed", "stopped", "failed"
ROUNDS_KEYS = ("num-rounds", "num-server-rounds")  # one of these in an app's configuration
_POLL_S = 0.1
_KINDS = {"run": int, "config": dict, "first": dict}  # of the members that are no text


@dataclass(frozen=True)
class CurrentRun:
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

    @property
    def rounds(self) -> int | float | str | bool | None:
        """How many there are to be, if the configuration says."""
        return next((self.config[key] for key in ROUNDS_KEYS if key in self.config), None)

    def __str__(self) -> str:
        rounds = self.rounds
        about = [f"{rounds} rounds"] if rounds is not None else []
        about += [f"mode {self.mode}"] if self.mode else []
        return f"run {self.run} ({', '.join(about)})" if about else f"run {self.run}"


def load(path: Path) -> CurrentRun | None:
    """None if there was none yet. LocalError for a file that is not ours.

    What a later version wrote beside it is left out: an aggregator may go back to this one.
    """
    try:
        members = json.loads(path.read_bytes())
        names = [item.name for item in fields(CurrentRun) if item.name in members]
        found = CurrentRun(**{name: members[name] for name in names})
        for item in fields(CurrentRun):
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


def save(path: Path, run: CurrentRun) -> None:
    write_private(path, json.dumps(asdict(run), indent=1).encode())


def carried(path: Path) -> dict[int, list[str]]:
    """The Flower runs that carried each run, the oldest first, from `runs.jsonl`."""
    found: dict[int, list[str]] = {}
    for text in path.read_text(errors="replace").splitlines() if path.exists() else ():
        try:
            entry = json.loads(text)
            found.setdefault(int(entry["run"]), []).append(str(entry["flower_run"]))
        except (ValueError, KeyError, TypeError, RecursionError):
            continue  # a line torn by a crash
    return found


def end(path: Path, found: CurrentRun, how: str, reason: str = "") -> bool:
    """Notes how `found` ended, unless that is not how it stands any more. Whether it did.

    OSError if it cannot be written.
    """
    if load(path) != found:
        return False
    save(path, replace(found, ended=how, reason=reason))
    return True


def of_flower_run(path: Path, flower_run: str, patience_s: float = 30.0) -> CurrentRun | None:
    """For the ServerApp: the run that this Flower run carries; None if it is not one of ours.

    A ServerApp may be up before its Flower run's id is known here, so this waits for it.
    """
    latest = time.monotonic() + patience_s
    while (run := load(path)) is not None:
        if run.flower_run == flower_run:
            return run
        if run.flower_run or run.ended or time.monotonic() >= latest:
            return None
        time.sleep(_POLL_S)
    return None
