"""Clip and weight cap that follow from round to round, from what the trailer counts."""

from __future__ import annotations

from dataclasses import dataclass

from ...protocol.ticket import LARGEST_CAP, LARGEST_CLIP, LEAST_CAP, LEAST_CLIP
from ...protocol.trailer import Trailer


@dataclass(frozen=True)
class Clipping:
    """What the next ticket says. It starts with room: beyond the clip an update is scaled down whole."""

    clip: float = 4.0
    weight_cap: int = 1024

    def after(self, counted: Trailer) -> Clipping:
        """Wider where somebody was clipped or capped, narrower where everybody had ample room."""
        clip, cap = self.clip, self.weight_cap
        if counted.clipped:
            clip = min(clip * 2, LARGEST_CLIP)
        elif counted.roomy == counted.contributors:
            clip = max(clip * 0.75, LEAST_CLIP)
        if counted.capped:
            cap = min(cap * 2, LARGEST_CAP)
        elif counted.weight * 4 < cap * counted.contributors:
            # No peer has more examples than all together: down to that at once.
            all_together = 1 << max(counted.examples - 1, 0).bit_length()
            cap = max(min(cap // 2, all_together), LEAST_CAP)
        return Clipping(clip, cap)
