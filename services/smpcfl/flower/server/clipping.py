"""Clip and weight cap that follow from round to round, from what the trailer counts."""

from __future__ import annotations

from dataclasses import dataclass

from ...protocol.quantise import Arrays
from ...protocol.rotated import first_clip
from ...protocol.ticket import (
    LARGEST_CAP,
    LARGEST_CLIP,
    LEAST_CAP,
    LEAST_CLIP,
    LEAST_ROTATED_CLIP,
)
from ...protocol.trailer import Trailer


@dataclass(frozen=True)
class Clipping:
    """What the next ticket says. It starts with room: beyond the clip an update is scaled down whole."""

    clip: float = 4.0
    weight_cap: int = 1024

    @classmethod
    def fitting(cls, model: Arrays) -> Clipping:
        """Where the width that is rotated starts, with this model."""
        return cls(clip=min(max(first_clip(model), LEAST_ROTATED_CLIP), LARGEST_CLIP))

    def after(self, counted: Trailer, fitting: float | None = None) -> Clipping:
        """Wider where somebody was clipped or capped, narrower where everybody had ample room.

        `fitting`: the clip that fits the last sum, where the width is the one that is rotated.
        """
        clip, cap = self.clip, self.weight_cap
        if counted.capped:
            cap = min(cap * 2, LARGEST_CAP)
        elif counted.weight * 4 < cap * counted.contributors:
            # No peer has more examples than all together: down to that at once.
            all_together = 1 << max(counted.examples - 1, 0).bit_length()
            cap = max(min(cap // 2, all_together), LEAST_CAP)
        if fitting is not None:
            # A weight is a part of the cap. A sum of nothing must not leave room for nothing.
            least = max(clip / 16, LEAST_ROTATED_CLIP)
            clip = min(max(fitting * self.weight_cap / cap, least), LARGEST_CLIP)
        elif counted.clipped:
            clip = min(clip * 2, LARGEST_CLIP)
        elif counted.roomy == counted.contributors:
            clip = max(clip * 0.75, LEAST_CLIP)
        return Clipping(clip, cap)
