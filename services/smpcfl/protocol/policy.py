"""A peer's own limits towards tickets. They depend on the ticket alone, never on data."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import LocalError, Reason, RemoteError
from .quantise import ROTATED
from .ring import WIDTHS
from .ticket import (
    EXAMPLES,
    HOUR_MS,
    LARGEST_CAP,
    LARGEST_CLIP,
    LEAST_CAP,
    LEAST_CLIP,
    LEAST_ROTATED_CLIP,
    MODES,
    SEEDED,
    Ticket,
)


@dataclass(frozen=True)
class Policy:
    """A peer's own limits. No ticket is followed beyond them, whoever signed it."""

    modes: tuple[str, ...] = (SEEDED,)
    min_cohort: int = 5
    min_survivors: int = 3
    members: frozenset[str] = frozenset()
    """If not empty, the only peers that may be in a cohort."""
    widths: tuple[int, ...] = WIDTHS
    clips: tuple[float, float] = (LEAST_CLIP, LARGEST_CLIP)
    rotated_clips: tuple[float, float] = (LEAST_ROTATED_CLIP, LARGEST_CLIP)
    weight_caps: tuple[int, int] = (LEAST_CAP, LARGEST_CAP)
    max_vector_bytes: int = 2**30
    max_deadline_ms: int = HOUR_MS
    tickets_per_hour: int = 60
    max_configurations: int = 1
    """Over one model, of configuration, clip, weight cap and width together."""
    min_difference: int = 3
    """Of two survivor sets over one model, in peers."""
    weighted_by: tuple[str, ...] = (EXAMPLES,)
    """Metrics that may weigh this peer's update; any if empty. With a loss, models could be crafted on which
    one peer's weight is a million times that of the others: then the sum is its update."""

    def __post_init__(self) -> None:
        if self.min_cohort < 3 or self.min_survivors < 3:
            raise LocalError(
                "min_cohort and min_survivors must be at least 3: a sum of two is no secret"
            )
        if self.min_difference < 2 or self.tickets_per_hour < 1 or self.max_configurations < 1:
            raise LocalError(
                "min_difference must be at least 2, tickets_per_hour and max_configurations at least 1"
            )
        unknown = set(self.modes) - set(MODES)
        if unknown or not self.modes:
            raise LocalError(f"unknown mode {sorted(unknown)}; known: {', '.join(MODES)}")

    def check(self, ticket: Ticket) -> None:
        """RemoteError with the reason of the first limit that `ticket` crosses."""
        n, k = len(ticket.cohort), ticket.degree
        if ticket.mode not in self.modes:
            raise RemoteError(Reason.POLICY_MODE, expected="/".join(self.modes), found=ticket.mode)
        if n < self.min_cohort:
            raise RemoteError(
                Reason.POLICY_COHORT, "cohort too small", expected=f">= {self.min_cohort}", found=n
            )
        if self.members and (strangers := set(ticket.cohort) - self.members):
            raise RemoteError(
                Reason.POLICY_MEMBERS, "not one of the pinned members", found=min(strangers)
            )
        if ticket.min_survivors < self.min_survivors:
            raise RemoteError(
                Reason.POLICY_SURVIVORS,
                expected=f">= {self.min_survivors}",
                found=ticket.min_survivors,
            )
        if 3 * ticket.threshold <= 2 * k:
            raise RemoteError(
                Reason.POLICY_THRESHOLD, expected=f"> 2/3 of {k}", found=ticket.threshold
            )
        limits: list[tuple[str, float, float, float]] = [
            ("clip", *(self.rotated_clips if ticket.width == ROTATED else self.clips), ticket.clip),
            ("weight cap", *self.weight_caps, ticket.weight_cap),
            ("bytes of the vector", 0, self.max_vector_bytes, ticket.layout.nbytes),
            ("unmask deadline in ms", 0, self.max_deadline_ms, ticket.deadlines.unmask),
        ]
        if ticket.width not in self.widths:
            raise RemoteError(
                Reason.POLICY_RANGE, "width", expected=self.widths, found=ticket.width
            )
        if self.weighted_by and ticket.weighted_by not in self.weighted_by:
            raise RemoteError(
                Reason.POLICY_RANGE,
                "weighted_by (allow it with SMPCFL_WEIGHTED_BY, if no model shifts it)",
                expected="/".join(self.weighted_by),
                found=ticket.weighted_by,
            )
        for name, least, most, found in limits:
            if not least <= found <= most:
                raise RemoteError(
                    Reason.POLICY_RANGE, name, expected=f"{least:g} to {most:g}", found=found
                )
