"""The ticket: the aggregator's signed announcement of a round."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, fields
from functools import cached_property
from itertools import pairwise
from typing import Any

from . import trailer
from .encoding import DIGEST_BYTES, VERSION, canonical, digest
from .errors import LocalError, Reason, RemoteError
from .keystream import Secret
from .quantise import ROTATED, Arrays, ModelShape, Quantiser
from .release import last_step_ms
from .ring import WIDTHS, Layout
from .rotated import RotatedQuantiser
from .signing import AGGREGATOR, REGISTRY
from .summed_metrics import MOST_NAME, MetricNames

SEEDED = "seeded"
ADDITIVE = "additive"
NORMAL = "normal"


@dataclass(frozen=True)
class Mode:
    """All that the modes differ in, beside a peer's state machine (`PeerRound`, `AdditivePeerRound`)."""

    secure: bool  # a round has a ticket and gives a sum; otherwise it is plain Flower
    recovers: bool  # the survivors' sum can be had: they agree and unmask. Else any lost peer voids the round
    tries: int  # at a round, with the peers that are there then
    least_peers: int  # of a sum of two each learns the other's update


MODES = {
    SEEDED: Mode(secure=True, recovers=True, tries=1, least_peers=3),
    ADDITIVE: Mode(secure=True, recovers=False, tries=3, least_peers=3),
    NORMAL: Mode(secure=False, recovers=True, tries=1, least_peers=2),
}
SECURE_MODES = tuple(name for name, mode in MODES.items() if mode.secure)

TRAIN, EVALUATE = "train", "evaluate"
"""What the ClientApps do: only a training brings a new model."""

EXAMPLES = "num-examples"
"""The metric that Flower's own strategies weigh by."""

HOUR_MS = 3_600_000
MAX_PEER_ID = 64
MAX_COHORT = 1024
MAX_VECTOR_BYTES = 2**31
MAX_ARRAYS = 4096
MAX_ARRAY_NAME = 256
MAX_DEADLINE_MS = 24 * HOUR_MS
# Of clip and weight cap in an honest run. A tiny clip would turn every update into its direction alone.
LEAST_CLIP, LARGEST_CLIP = 2.0**-10, 2.0**16
# Of the width that is rotated the clip follows the size of the sum; below it all have the same norm.
LEAST_ROTATED_CLIP = 2.0**-24
LEAST_CAP, LARGEST_CAP = 16, 2**20


@dataclass(frozen=True)
class Deadlines:
    """Milliseconds after a party first saw the ticket; each strictly later than the one before."""

    exchange: int = 20_000
    ready: int = 40_000
    train: int = 140_000
    upload: int = 160_000
    agree: int = 180_000
    unmask: int = 200_000

    def __post_init__(self) -> None:
        values = [0, *self.in_order, MAX_DEADLINE_MS]
        if any(a >= b for a, b in pairwise(values)):
            raise LocalError(
                "deadlines must be exchange < ready < train < upload < agree < unmask < 24 h, in"
                f" milliseconds, not {self.in_order}"
            )

    @property
    def training_ms(self) -> int:
        """How long each peer may train from when it begins, which is before the ready deadline.

        Whoever takes longer uploads a zero. It is the same for all, whenever their messages come, and one of
        the steps at which uploads leave.
        """
        return last_step_ms(self.train - self.ready)

    @property
    def in_order(self) -> tuple[int, ...]:
        return self.exchange, self.ready, self.train, self.upload, self.agree, self.unmask


def default_threshold(degree: int) -> int:
    """The least threshold above two thirds of the degree."""
    return 2 * degree // 3 + 1


def default_min_survivors(mode: str, peers: int, threshold: int) -> int:
    """As few as can unmask; all of them where a lost peer voids the round."""
    return min(peers, threshold + 1) if MODES[mode].recovers else peers


@dataclass(frozen=True)
class Ticket:
    """Everything that determines a round and its update (docs/protocol.md, section 5)."""

    run: int
    round: int
    serial: int
    nonce: bytes
    mode: str
    cohort: tuple[str, ...]
    threshold: int
    width: int
    clip: float
    weight_cap: int
    body: int
    wide: int
    min_survivors: int
    deadlines: Deadlines
    model_digest: bytes
    config_digest: bytes
    task: str = TRAIN
    weighted_by: str = EXAMPLES
    """The metric that says how many examples a peer has."""
    metrics: MetricNames = field(default_factory=MetricNames)
    arrays: tuple[str, ...] = ()
    """Names of the model's arrays that are trained and summed; none stands for all of them."""
    draw: int = 0
    """Number of the registry's draw that the cohort comes from; 0 for none."""
    group: int = 0
    """Which group of that draw the cohort is, from 1 on."""
    version: int = VERSION

    def __post_init__(self) -> None:
        if self.version != VERSION:
            # First: of another version all else may mean something else.
            raise RemoteError(Reason.OTHER_PROTOCOL, "ticket", expected=VERSION, found=self.version)
        # The wire knows no whole numbers here, and 1 and 1.0 are not the same under the digest.
        object.__setattr__(self, "clip", float(self.clip))
        n = len(self.cohort)
        checks = {
            "run": 0 <= self.run < 2**64,
            "round": 0 <= self.round < 2**32,
            "serial": 0 < self.serial < 2**63,
            "nonce": len(self.nonce) == DIGEST_BYTES,
            "mode": self.mode in SECURE_MODES,
            "cohort": 3 <= n <= MAX_COHORT
            and list(self.cohort) == sorted(set(self.cohort))
            and all(0 < len(peer) <= MAX_PEER_ID for peer in self.cohort)
            # The aggregator holds that key: it would be a peer that it made up.
            and not {AGGREGATOR, REGISTRY} & set(self.cohort),
            "threshold": 1 <= self.threshold <= self.degree,
            "width": self.width in WIDTHS,
            "clip": math.isfinite(self.clip) and self.clip > 0,
            "weight_cap": 1 <= self.weight_cap < 2**32,
            "task": self.task in (TRAIN, EVALUATE),
            "weighted_by": 0 < len(self.weighted_by) <= MOST_NAME,
            "arrays": len(self.arrays) <= MAX_ARRAYS
            and list(self.arrays) == sorted(set(self.arrays))
            and all(0 < len(name) <= MAX_ARRAY_NAME for name in self.arrays)
            and (self.task == TRAIN or not self.arrays),
            "draw": 0 <= self.draw < 2**63,
            "group": 0 <= self.group < 2**32 and (self.group > 0) == (self.draw > 0),
            "vector": self.body >= 0
            and self.wide >= self.metrics.words + trailer.LENGTH
            and (self.task == TRAIN or self.layout == self.layout_of({})),
            "min_survivors": 2 <= self.min_survivors <= n,
            "model_digest": len(self.model_digest) == DIGEST_BYTES,
            "config_digest": len(self.config_digest) == DIGEST_BYTES,
        }
        for name, good in checks.items():
            if not good:
                raise RemoteError(Reason.MALFORMED, f"ticket {name}", found=self._shown(name))
        try:
            _ = self.quantiser
        except LocalError as error:
            raise RemoteError(Reason.MALFORMED, f"ticket: {error}") from error
        if self.layout.nbytes > MAX_VECTOR_BYTES:
            raise RemoteError(Reason.MALFORMED, "ticket vector", found=self.layout.nbytes)

    def _shown(self, name: str) -> object:
        found = getattr(self, name, None)
        return len(found) if isinstance(found, tuple) else found

    @cached_property
    def signed_bytes(self) -> bytes:
        values = [getattr(self, item.name) for item in fields(self)]
        return canonical("ticket", *(_plain(value) for value in values))

    @cached_property
    def digest(self) -> bytes:
        """SHA-256, 32 bytes: names this round in every later message."""
        return digest("ticket digest", self.signed_bytes)

    @property
    def layout(self) -> Layout:
        return Layout(self.width, self.body, self.wide)

    def summed(self, model: Arrays) -> Arrays:
        """The arrays of `model` that are uploaded, in its order: in an evaluation none of them.

        LocalError if `model` lacks one that the ticket names.
        """
        if self.task != TRAIN:
            return {}
        if missing := [name for name in self.arrays if name not in model]:
            raise LocalError(f"the model lacks the arrays {missing} that the ticket names")
        return {name: model[name] for name in model if not self.arrays or name in self._named}

    @cached_property
    def _named(self) -> frozenset[str]:
        return frozenset(self.arrays)

    def layout_of(self, model: Arrays) -> Layout:
        """What the layout has to be for `model`. LocalError as `summed`."""
        return ModelShape.of(self.summed(model)).layout(self.width, self.metrics.words)

    @property
    def quantiser(self) -> Quantiser:
        numbers = self.width, self.clip, self.weight_cap, len(self.cohort)
        if self.width == ROTATED:
            return RotatedQuantiser(*numbers, signs=Secret(digest("signs", self.nonce)))
        return Quantiser(*numbers)

    @property
    def degree(self) -> int:
        """How many neighbours each cohort member has: everyone is everyone's."""
        return len(self.cohort) - 1

    @cached_property
    def neighbours(self) -> list[tuple[int, ...]]:
        """Cohort indices of each cohort member's neighbours, ascending."""
        n = len(self.cohort)
        return [(*range(i), *range(i + 1, n)) for i in range(n)]

    @property
    def recovers(self) -> bool:
        return MODES[self.mode].recovers

    def index(self, peer: str) -> int:
        """Place of `peer` in the cohort; RemoteError(NOT_IN_COHORT)."""
        try:
            return self._places[peer]
        except KeyError:
            raise RemoteError(Reason.NOT_IN_COHORT, peer=peer) from None

    @cached_property
    def _places(self) -> dict[str, int]:
        return {peer: place for place, peer in enumerate(self.cohort)}


def _plain(value: Any) -> Any:
    if isinstance(value, Deadlines):
        return astuple(value)
    return value.canonical if isinstance(value, MetricNames) else value


@dataclass(frozen=True)
class SignedTicket:
    ticket: Ticket
    signature: bytes

    @property
    def ticket_digest(self) -> bytes:
        return self.ticket.digest


def pack_bitmap(members: Sequence[int], size: int) -> bytes:
    """One bit for each cohort index, least significant first."""
    found = set(members)
    for member in (min(found), max(found)) if found else ():
        if not 0 <= member < size:
            raise RemoteError(Reason.MALFORMED, "bitmap", expected=f"< {size}", found=member)
    return sum(map((1).__lshift__, found)).to_bytes((size + 7) // 8, "little")


def unpack_bitmap(raw: bytes, size: int) -> tuple[int, ...]:
    """Ascending indices; RemoteError(MALFORMED) for a wrong length or bits beyond `size`."""
    bits = int.from_bytes(raw, "little")
    if len(raw) != (size + 7) // 8 or bits >> size:
        raise RemoteError(Reason.MALFORMED, "bitmap", expected=f"{size} bits", found=len(raw) * 8)
    return tuple(index for index, bit in enumerate(f"{bits:b}"[::-1]) if bit == "1")
