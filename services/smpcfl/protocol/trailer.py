"""The trailer: 64-bit counters that are summed beside the update and never sent in the clear."""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields

import numpy as np

from .errors import LocalError, Reason, RemoteError
from .ring import WIDE, Elements, signed


@dataclass(frozen=True)
class Trailer:
    """One peer's counters, or their sum.

    `peers` is 1 for each peer, `contributors` 1 for each whose training succeeded: for the others all that
    follows is 0. `reporters` is 1 for each whose metrics are in the sum; `weight` is min(n_i, cap);
    `clipped` counts peers whose update was scaled down to the clip, `roomy` peers whose entries all stayed
    below half of it, `capped` peers with more examples than the cap.
    """

    peers: int
    contributors: int = 0
    reporters: int = 0
    weight: int = 0
    examples: int = 0
    clipped: int = 0
    roomy: int = 0
    capped: int = 0


LENGTH = len(fields(Trailer))


def encode(trailer: Trailer, cohort: int) -> Elements:
    """The counters as uint64, shape (LENGTH,).

    LocalError for a counter beyond (2^63-1)/cohort in magnitude: then no sum can wrap around.
    """
    bound = (2**63 - 1) // cohort
    for field in fields(trailer):
        value = getattr(trailer, field.name)
        if abs(value) > bound:
            raise LocalError(
                f"trailer counter {field.name} is {value}; at most {bound} in magnitude fits"
                f" a cohort of {cohort}"
            )
    return np.array(astuple(trailer), np.int64).view(WIDE)


def decode(values: Elements, survivors: int) -> Trailer:
    """The summed counters; RemoteError(BAD_TRAILER) if they cannot be those of `survivors`."""
    trailer = Trailer(*(int(value) for value in signed(values)))
    if trailer.peers != survivors:
        raise RemoteError(
            Reason.BAD_TRAILER, "peers counted", expected=survivors, found=trailer.peers
        )
    if not 0 <= trailer.contributors <= survivors:
        raise RemoteError(Reason.BAD_TRAILER, "contributors", found=trailer.contributors)
    for name in ("reporters", "clipped", "roomy", "capped"):
        if not 0 <= getattr(trailer, name) <= trailer.contributors:
            raise RemoteError(Reason.BAD_TRAILER, name, found=getattr(trailer, name))
    if not trailer.contributors <= trailer.weight <= trailer.examples:
        raise RemoteError(Reason.BAD_TRAILER, "weight or examples out of range")
    if not trailer.contributors:
        raise RemoteError(
            Reason.TOO_FEW_CONTRIBUTORS, "training failed on every peer", expected=">= 1", found=0
        )
    return trailer
