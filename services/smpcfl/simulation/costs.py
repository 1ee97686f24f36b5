"""What peers of a deployment would have sent and computed, counted while virtual ones do it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..reports.units import byte_size


@dataclass
class Costs:
    """Of one peer. Bytes are those sent to other peers, with gRPC's frames, without TLS."""

    p2p_bytes: int = 0
    signed: int = 0
    verified: int = 0


@dataclass(frozen=True)
class RoundCosts:
    """Of one round, its evaluation included: means over the `peers` that took part, and the most bytes.

    `lost`: how many peers were lost, by when.
    """

    peers: int
    p2p_bytes: float = 0.0
    p2p_bytes_most: int = 0
    signed: float = 0.0
    verified: float = 0.0
    lost: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, spent: Sequence[Costs], lost: Mapping[str, int]) -> RoundCosts:
        count = len(spent)
        if not count:
            return cls(0, lost=dict(lost))
        return cls(
            peers=count,
            p2p_bytes=sum(item.p2p_bytes for item in spent) / count,
            p2p_bytes_most=max(item.p2p_bytes for item in spent),
            signed=sum(item.signed for item in spent) / count,
            verified=sum(item.verified for item in spent) / count,
            lost=dict(lost),
        )

    def text(self) -> str:
        """For the log."""
        lost = "".join(f"; {count} lost {when}" for when, count in sorted(self.lost.items()))
        return (
            f"in a deployment each peer would have sent {byte_size(self.p2p_bytes)} to others (at most"
            f" {byte_size(self.p2p_bytes_most)}), signed {self.signed:.1f} times, and verified"
            f" {self.verified:.0f} signatures{lost}"
        )
