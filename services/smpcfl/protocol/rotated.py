"""The quantiser of 8 bits: rotated, to the size of the last sum (docs/protocol.md, section 4, Eight bits).

With a worst case for each of n peers, as the other widths have it, little of 8 bits would be left. Here the
sum may wrap around; after the rotation its entries are nearly Gaussian, and 127 is eight of their deviations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from . import kernels
from .errors import LocalError
from .keystream import Secret, keystream
from .quantise import Arrays, Change, Quantiser, count_floats, diverged
from .ring import Elements, signed_view
from .rotation import block_size, rotate, rotate_back

HALF = 127
ROOM = 8.0  # deviations of a sum's entry that fit
_LEAST_CLIP, _LARGEST_CLIP = 1e-30, 1e30  # so that no scale is beyond float32; a policy is stricter
_LARGEST_SQUARES = 1e60  # of an update: float32 goes to 3e38
_FIRST = 4.0  # the first sum's room, in deviations of the model's entries
_NO_MODEL = 0.25  # where these are all zero


@dataclass(frozen=True)
class RotatedQuantiser(Quantiser):
    """`clip`: where an entry of the rotated weighted sum reaches 127. `signs`: a key, which is no secret."""

    signs: Secret = field(kw_only=True)

    def __post_init__(self) -> None:
        if not _LEAST_CLIP <= self.clip <= _LARGEST_CLIP:
            raise LocalError(f"clip must be from {_LEAST_CLIP} to {_LARGEST_CLIP}, not {self.clip}")
        self._check_cap()

    def encode(
        self, changes: Sequence[Change], examples: int, rounding: Secret, out: Elements
    ) -> tuple[bool, bool]:
        """As of Quantiser; whether it was beyond the clip, and False.

        An update is beyond it if its entries' deviation is above an eighth of it. By that, not by the largest
        after the rotation: what the limit does must not depend on signs that the aggregator chooses.
        """
        count, weight = sum(old.size for old, _ in changes), self.weight(examples)
        x = np.zeros(len(out), np.float32)
        squares = kernels.differences(changes, x)
        if not math.isfinite(squares):
            raise diverged(changes)
        if squares > _LARGEST_SQUARES:
            raise LocalError(
                f"the update's norm is {math.sqrt(squares):g}: with width=8 it is at most 1e30"
            )
        deviation, most = math.sqrt(squares / max(count, 1)), self.clip / (ROOM * weight)
        size = block_size(count)
        scale = weight * HALF / self.clip / math.sqrt(size) * min(1.0, most / (deviation or most))
        np.multiply(x, np.float32(scale), out=x)
        rotate(x, size, self.signs)
        kernels.round_words(x, keystream(rounding), out)
        return deviation > most, False

    def entries(self, total: Elements, count: int, weight: int) -> tuple[npt.NDArray[Any], float]:
        found, size = signed_view(total).astype(np.float32), block_size(count)
        rotate_back(found, size, self.signs)
        return found[:count], self.clip / HALF * self.per_weight(weight) / math.sqrt(size)

    def fitting_clip(self, total: Elements, count: int, contributors: int) -> float:
        """For a sum of all peers, if it is as large as this one of `contributors`."""
        loudest = kernels.loudest_column(signed_view(total), block_size(count))
        return ROOM * loudest * self.clip / HALF * self.cohort / max(contributors, 1)


def first_clip(model: Arrays) -> float:
    """Before there is a sum: from the size of the model's entries.

    A power of two: whoever computes it again, with the last bits of a sum another way, comes to the same.
    Peers take one clip a model.
    """
    floats = (array for array in model.values() if array.dtype.kind == "f")
    squares, count = sum(map(kernels.sum_of_squares, floats)), count_floats(model)
    deviation = math.sqrt(squares / count) if count else 0.0
    if not 0.0 < deviation < math.inf:
        return _NO_MODEL
    return _FIRST * 2.0 ** round(math.log2(deviation))
