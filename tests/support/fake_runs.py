"""Flower's runs as the command line sees them, without a SuperLink, and the record of a round."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from smpcfl.aggregator.flower_runs import FlowerRun
from smpcfl.protocol.errors import LocalError
from smpcfl.reports.record import RoundRecord


class FakeRuns:
    """`table` by id, the newest first; `prints` what each has printed.

    `steps` happen one by one, each when a run's output has been shown to its end.
    """

    def __init__(self) -> None:
        self.table: dict[str, FlowerRun] = {}
        self.prints: dict[str, str] = {}
        self.steps: list[Callable[[], object]] = []
        self.log: list[tuple[str, ...]] = []
        self.down = False

    def add(
        self, run_id: str, status: str = "running", prints: str = "", details: str = ""
    ) -> None:
        new = FlowerRun(run_id, status, "me/mine", details)
        self.table = {run_id: new, **self.table}
        self.prints.setdefault(run_id, prints)

    def becomes(self, run_id: str, status: str, details: str = "") -> None:
        self.table[run_id] = replace(self.table[run_id], status=status, details=details)

    async def start(self, app: Path, config: Mapping[str, Any]) -> str:
        self.log.append(("start", str(app)))
        self.add("100")
        return "100"

    async def stop(self, run_id: str) -> None:
        self.log.append(("stop", run_id))
        self.becomes(run_id, "finished:stopped")

    async def listed(self) -> list[FlowerRun]:
        if self.down:
            raise LocalError("no SuperLink")
        return list(self.table.values())

    async def active(self) -> list[str]:
        return [run.run_id for run in await self.listed() if run.active]

    async def output(self, run_id: str) -> AsyncIterator[str]:
        for piece in self.prints[run_id].splitlines(keepends=True):
            yield piece
        self.steps.pop(0)()


def a_record(**members: Any) -> RoundRecord:
    """Of a complete round of five in which nothing was evaluated and nothing sent, but for `members`."""
    given = {
        "run": 1,
        "round": 1,
        "mode": "seeded",
        "outcome": "complete",
        "cohort": 5,
        "survivors": 5,
        "dropouts": 0,
        "accuracy": None,
        "loss": None,
        "train_loss": None,
        "bytes_up": 0.0,
        "bytes_down": 0.0,
        "bytes_p2p": 0.0,
        "seconds": 1.0,
        "phase_seconds": {},
    }
    return RoundRecord(**{**given, **members})
