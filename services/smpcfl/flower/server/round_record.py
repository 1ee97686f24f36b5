"""What is recorded of a round, and under which names apps report accuracy and loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...reports.record import RoundRecord
from .secure_round import Outcome

# The first that an app reports; otherwise a name that ends so.
_ACCURACY = ("accuracy", "acc")
_LOSS = ("loss",)


@dataclass
class OpenRound:
    """A round from its start until nothing more is to be known of it."""

    number: int
    started: float  # time.monotonic()
    seconds: float = 0.0
    outcome: Outcome = field(default_factory=Outcome)
    evaluated: Mapping[str, Any] = field(default_factory=dict)
    """The global model's metrics: the server's, or the peers' weighted mean."""

    def tried(self, outcome: Outcome) -> None:
        """A try, perhaps after another one that came to nothing: what that cost is the round's as well."""
        before, self.outcome = self.outcome, outcome
        self._add_bytes(before)
        for phase, seconds in before.phase_seconds.items():
            outcome.phase_seconds[phase] = outcome.phase_seconds.get(phase, 0.0) + seconds
        outcome.lost = {**before.lost, **outcome.lost}

    def add(self, evaluation: Outcome, seconds: float) -> None:
        """An evaluation by the peers, which is part of the round."""
        self.seconds += seconds
        self._add_bytes(evaluation)
        self.outcome.phase_seconds["evaluate"] = seconds
        self.evaluated = evaluation.metrics

    def _add_bytes(self, other: Outcome) -> None:
        self.outcome.bytes_up += other.bytes_up
        self.outcome.bytes_down += other.bytes_down
        self.outcome.bytes_p2p += other.bytes_p2p
        self.outcome.unmask_up += other.unmask_up
        self.outcome.unmask_down += other.unmask_down

    def record(self, run: int, mode: str, flower_seconds: float | None) -> RoundRecord:
        outcome, cohort = self.outcome, max(self.outcome.cohort, 1)
        return RoundRecord(
            run=run,
            round=self.number,
            mode=mode,
            outcome="complete" if outcome.replies else "void",
            reason=outcome.reason,
            cohort=outcome.cohort,
            survivors=outcome.survivors,
            contributors=outcome.contributors,
            withstood=outcome.withstood,
            dropouts=outcome.cohort - outcome.survivors,
            accuracy=_named(self.evaluated, _ACCURACY),
            loss=_named(self.evaluated, _LOSS),
            train_loss=_named(outcome.metrics, _LOSS),
            bytes_up=outcome.bytes_up / cohort,
            bytes_down=outcome.bytes_down / cohort,
            bytes_p2p=outcome.bytes_p2p / cohort,
            unmask_up=outcome.unmask_up / cohort,
            unmask_down=outcome.unmask_down / cohort,
            plain_bytes=outcome.plain_bytes,
            seconds=self.seconds,
            flower_seconds=flower_seconds,
            phase_seconds=outcome.phase_seconds,
            draw=outcome.draw,
            groups=tuple(outcome.groups),
            suspected=outcome.suspected,
            lost=outcome.lost,
        )


def _named(metrics: Mapping[str, Any], endings: tuple[str, ...]) -> float | None:
    """The metric that is named so, or whose name ends so; None if there is none."""
    for ending in endings:
        names = [ending, *(name for name in metrics if name.lower().endswith(ending))]
        for name in names:
            value = metrics.get(name)
            if isinstance(value, int | float) and math.isfinite(value):
                return float(value)
    return None
