"""What `SecureStrategy` and `secure` take, and what follows from it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from ...protocol.errors import LocalError
from ...protocol.quantise import Arrays
from ...protocol.ring import WIDTHS
from ...protocol.ticket import EXAMPLES, MODES, SEEDED, Deadlines
from .clipping import Clipping


@dataclass(frozen=True)
class Options:
    """What `SecureStrategy` and `secure` take beside the strategy or the grid.

    `mode`: the deployment's (`SMPCFL_MODE`) unless given. `min_peers`: fewest to start a round with, the
    aggregator's `SMPCFL_MIN_PEERS` unless given. `width`: bits of a ring element, which each parameter is
    uploaded as: 16, 32, 64, or 8 (docs/porting.md says what that costs). `grace_s`: how long the last replies
    of a round are waited for. `seed`: makes the rounding reproducible, where the peers' operators allow that.
    `clipping`: where clip and weight cap start, if not where the width has them start. `weighted_by`: the
    metric that weighs an update; peers allow others than `num-examples` with `SMPCFL_WEIGHTED_BY`. `arrays`:
    names of those that the ClientApps send back, `*` standing for any characters; left out, all of them.
    LocalError for a value that cannot work.
    """

    mode: str = field(default_factory=lambda: os.environ.get("SMPCFL_MODE", SEEDED))
    min_peers: int = field(default_factory=lambda: int(os.environ.get("SMPCFL_MIN_PEERS", 5)))
    width: int = 16
    deadlines: Deadlines = field(default_factory=Deadlines)
    grace_s: float = 20.0
    seed: int | None = None
    clipping: Clipping | None = None
    weighted_by: str = EXAMPLES
    arrays: Sequence[str] = ()

    def __post_init__(self) -> None:
        if isinstance(self.arrays, str) or not all(isinstance(name, str) for name in self.arrays):
            raise LocalError(f"arrays is {self.arrays!r}: a list of names is needed, as ['lora*']")
        if self.mode not in MODES:
            raise LocalError(f"unknown mode {self.mode!r}: choose one of {', '.join(MODES)}")
        if self.width not in WIDTHS:
            raise LocalError(
                f"width is {self.width!r}: choose one of {', '.join(map(str, WIDTHS))}"
            )
        least = MODES[self.mode].least_peers
        if self.secure and self.min_peers < least:
            raise LocalError(
                f"min_peers is {self.min_peers}: a sum of two is no secret, at least {least}"
            )

    @property
    def secure(self) -> bool:
        return MODES[self.mode].secure

    def summed(self, model: Arrays) -> Arrays:
        """The arrays of `model` that are trained, in its order. LocalError for a name that fits none."""
        if not self.arrays:
            return model
        for pattern in self.arrays:
            if not any(fnmatchcase(name, pattern) for name in model):
                raise LocalError(
                    f"arrays={list(self.arrays)}: no array of the model is named {pattern!r}; it has"
                    f" {', '.join(model)}"
                )
        return {
            name: array
            for name, array in model.items()
            if any(fnmatchcase(name, pattern) for pattern in self.arrays)
        }

    @property
    def recovers(self) -> bool:
        return self.secure and MODES[self.mode].recovers
