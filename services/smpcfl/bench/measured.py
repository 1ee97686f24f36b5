"""What a case found, and how its figures are written for people."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..reports.units import byte_size
from .timing import Spread

PLAIN, SECAGG, HERE, LIMIT = "plain FedAvg", "Flower SecAgg+", "here", "limit"
EIGHT = "here, 8 bits"
SECONDS, BYTES = "s", "B"


@dataclass(frozen=True)
class Measured:
    """Sides that did the same `work`, in seconds or bytes (`unit`)."""

    work: str
    unit: str
    sides: dict[str, Spread]
    ratio: float | None = None
    """Here to the limit, or where there is none to plain; None where nothing is to be held."""
    notes: dict[str, str] = field(default_factory=dict)
    """By side, what it is where that does not go without saying."""

    @classmethod
    def of(cls, read: dict[str, Any]) -> Measured:
        """From its JSON."""
        return cls(**{**read, "sides": {k: Spread(**v) for k, v in read["sides"].items()}})

    @property
    def base(self) -> str:
        """The side that `ratio` is to."""
        return LIMIT if LIMIT in self.sides else PLAIN

    def here_to(self, side: str) -> str:
        """`0.50` for half of that side's; empty where that says nothing."""
        if side == HERE or HERE not in self.sides:
            return ""
        if side == self.base and self.ratio is not None:
            return _number(self.ratio)
        return _number(self.sides[HERE].median / self.sides[side].median)

    def median(self, side: str) -> str:
        return amount(self.sides[side].median, self.unit)

    def half(self, side: str) -> str:
        """Between which two the middle half lies; empty for what is counted, not timed."""
        spread = self.sides[side]
        if spread.low == spread.high:
            return ""
        return f"{amount(spread.low, self.unit)} to {amount(spread.high, self.unit)}"


def amount(value: float, unit: str) -> str:
    """`1.23 s`, `45.6 ms`, `789 µs`, `4.0 MB`."""
    if unit == BYTES:
        return byte_size(value)
    if value >= 1:
        return f"{value:.2f} s"
    return f"{value * 1e3:.1f} ms" if value >= 1e-3 else f"{value * 1e6:.0f} µs"


def _number(value: float) -> str:
    """Two digits that say something: `12`, `1.9`, `0.50`, `0.013`."""
    if value >= 10:
        return f"{value:.0f}"
    if value >= 1:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"
