"""Clip and weight cap that follow from round to round, from what the trailer counts."""

from __future__ import annotations

from dataclasses import dataclass

from ..protocol.trailer import Trailer

LEAST_CLIP = 2.0**-20
LARGEST_CLIP = 2.0**16
LARGEST_CAP = 2**31


@dataclass(frozen=True)
class Limits:
    """What the next ticket says."""

    clip: float = 1.0
    weight_cap: int = 1024

    def after(self, counted: Trailer) -> Limits:
        """Wider where somebody was clipped or capped, narrower where everybody had ample room."""
        clip, cap = self.clip, self.weight_cap
        if counted.clipped:
            clip = min(clip * 2, LARGEST_CLIP)
        elif counted.roomy == counted.peers:
            clip = max(clip * 0.75, LEAST_CLIP)
        if counted.capped:
            cap = min(cap * 2, LARGEST_CAP)
        elif counted.weight * 4 < cap * counted.peers:
            cap = max(cap // 2, 1)
        return Limits(clip, cap)
