"""Fixed-point quantiser with stochastic rounding (docs/protocol.md, section 4).

One peer adds x * weight, with weight = min(n_i, cap) / (n * cap), so that all weights together are
at most 1: the sum, not the addend, needs the ring's width. With `span` = scale * clip,
span + n <= 2^(w-1) - 1 leaves room for each of n peers to be rounded up by less than one unit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import kernels
from . import trailer as trailers
from .encoding import before_bytes, before_list, canonical, encoded
from .errors import LocalError
from .keystream import Secret, keystream
from .ring import WIDE, WIDTHS, Elements, Layout, RingVector
from .rotation import padded
from .trailer import Trailer

Arrays = Mapping[str, npt.NDArray[Any]]
Change = tuple[npt.NDArray[Any], npt.NDArray[Any]]
"""An array before and after the training."""
# So that no scale is beyond float64; a policy is stricter.
_LEAST_CLIP, _LARGEST_CLIP = 1e-100, 1e100
_SPAN_LIMIT = 2**52  # beyond it float64 has no fraction left to round stochastically
ROTATED = 8  # the width of another quantiser, in rotated.py
EXACT = tuple(width for width in WIDTHS if width != ROTATED)
"""Widths whose sums cannot wrap around."""
# Bits of chance for each entry, by the ring's width: with those of the sum they fit into an integer as large
# as the floats that are computed in, float64 beyond 16 bits.
_CHANCE: dict[int, np.dtype[Any]] = {16: np.dtype("<u2"), 32: np.dtype("<u4"), 64: np.dtype("<u1")}
NO_WORDS: Elements = np.zeros(0, WIDE)
_KINDS = {"f": "body", "i": "wide", "u": "wide", "b": "wide"}


@dataclass(frozen=True)
class Quantiser:
    """Fixed by the ticket: the same for all peers of a cohort of `cohort` peers."""

    width: int
    clip: float
    weight_cap: int
    cohort: int

    def __post_init__(self) -> None:
        if not _LEAST_CLIP <= self.clip <= _LARGEST_CLIP:
            raise LocalError(f"clip must be from {_LEAST_CLIP} to {_LARGEST_CLIP}, not {self.clip}")
        self._check_cap()
        if self.span < 1:
            raise LocalError(f"a ring of {self.width} bits cannot sum {self.cohort} peers")

    def _check_cap(self) -> None:
        if self.weight_cap < 1:
            raise LocalError(f"weight cap must be at least 1, not {self.weight_cap}")

    def weight(self, examples: int) -> float:
        """Of one peer's update; of all peers together at most 1."""
        return min(examples, self.weight_cap) / (self.cohort * self.weight_cap)

    @property
    def span(self) -> int:
        """scale * clip: what an entry at the clip with weight 1 becomes."""
        return min((1 << (self.width - 1)) - 1 - self.cohort, _SPAN_LIMIT)

    def encode(
        self, changes: Sequence[Change], examples: int, rounding: Secret, out: Elements
    ) -> tuple[bool, bool]:
        """Writes an update's ring elements; whether it was beyond the clip; whether below clip/2.

        An update beyond the clip is scaled down as a whole: cut entry by entry it would be, for a tiny clip,
        the sign of each entry times the number of examples. `rounding`: a key used for nothing else.
        LocalError where an entry is NaN or infinite.
        """
        weight = self.weight(examples)

        def write(clip: float) -> float:
            scale, stream = self.span * weight / clip, keystream(rounding)
            floats = self._floats(changes, scale)
            return kernels.quantise(changes, scale, floats, _CHANCE[self.width], stream, out)

        # Nearly always it is within the clip, and once is enough.
        largest = write(self.clip)
        if not np.isfinite(largest):
            raise diverged(changes)
        if largest > self.clip:
            write(largest)
        return largest > self.clip, largest < self.clip / 2

    def _floats(self, changes: Sequence[Change], scale: float) -> type[np.floating[Any]]:
        """What is computed in: float32 where it is as good as the arrays, and half as long."""
        narrow = all(array.dtype.itemsize <= 4 for change in changes for array in change)
        fits = self.width <= 16 and scale <= 2.0**100
        return np.float32 if narrow and fits else np.float64

    def per_weight(self, weight: int) -> float:
        """What makes a mean of a weighted sum, where Σ min(n_i, cap) is `weight`."""
        return self.cohort * self.weight_cap / weight

    def entries(self, total: Elements, count: int, weight: int) -> tuple[npt.NDArray[Any], float]:
        """The sum's entries, shape (count,), and what one unit of them is of the mean."""
        return total, self.clip / self.span * self.per_weight(weight)

    def fitting_clip(self, total: Elements, count: int, contributors: int) -> float | None:
        """What the next clip ought to be; None where that follows from the counters alone."""
        return None


@dataclass(frozen=True)
class ModelShape:
    """Names, shapes and dtypes of a model's arrays, in order: how it is laid out in a vector."""

    entries: tuple[tuple[str, tuple[int, ...], str], ...]

    @classmethod
    def of(cls, arrays: Arrays) -> ModelShape:
        """LocalError for a dtype that is neither float nor integer."""
        for name, array in arrays.items():
            if array.dtype.kind not in _KINDS:
                raise LocalError(
                    f"array {name!r} has dtype {array.dtype}: only floats and integers"
                )
        return cls(tuple((name, a.shape, a.dtype.str) for name, a in arrays.items()))

    def layout(self, width: int, metrics: int = 0) -> Layout:
        """Ring layout: floats in the body; integers, words of `metrics` and the trailer in the wide part.

        Of the width that is rotated the body is padded to whole blocks.
        """
        counts = {"body": 0, "wide": metrics + trailers.LENGTH}
        for _, shape, dtype in self.entries:
            counts[_part(dtype)] += int(np.prod(shape, dtype=np.int64))
        body = padded(counts["body"]) if width == ROTATED else counts["body"]
        return Layout(width, body, counts["wide"])

    def check(self, arrays: Arrays) -> None:
        """LocalError that names what differs from this shape. The order of `arrays` does not matter.

        Floats may be of another size: NumPy makes float64 of float32 unasked.
        """
        found = {name: (shape, dtype) for name, shape, dtype in ModelShape.of(arrays).entries}
        wanted = {name for name, _, _ in self.entries}
        if wanted != found.keys():
            missing, more = sorted(wanted - found.keys()), sorted(found.keys() - wanted)
            raise LocalError(
                f"the reply lacks the arrays {missing} that are summed in this round, and has {more} besides:"
                " the ServerApp names what is trained, as in SecureStrategy(..., arrays=['lora*'])"
            )
        for name, shape, dtype in self.entries:
            got = found[name]
            if got[0] != shape or _part(got[1]) != _part(dtype):
                raise LocalError(
                    f"array {name!r} has shape {got[0]} and dtype {got[1]}; in the round's model it has"
                    f" shape {shape} and dtype {dtype}"
                )


def _part(dtype: str) -> str:
    """Of a ring vector: where arrays of this dtype go."""
    return _KINDS[np.dtype(dtype).kind]


def encode_update(
    quantiser: Quantiser,
    given: Arrays,
    trained: Arrays,
    *,
    examples: int,
    rounding: Secret,
    metrics: Elements = NO_WORDS,
    reports: bool = True,
) -> RingVector:
    """A peer's addend q_i: the update trained - given, metrics and the trailer, before any mask.

    `metrics`: its words of them, uint64, shape (w,); noise if it does not `report` any. `rounding`: 32 random
    bytes of this peer's own, for this addend alone.

    LocalError for shapes that do not match, NaN, infinity, or counters out of range.
    """
    shape = ModelShape.of(given)
    shape.check(trained)
    if examples < 1:
        raise LocalError(f"number of examples must be at least 1, not {examples}")
    vector = shape.layout(quantiser.width, len(metrics)).zeros()
    floats = [(a, trained[name]) for name, a in given.items() if a.dtype.kind == "f"]
    clipped, roomy = quantiser.encode(floats, examples, rounding, vector.body)
    weight = min(examples, quantiser.weight_cap)
    place = 0
    for name, array in given.items():
        if array.dtype.kind != "f":
            words = vector.wide[place : place + array.size]
            _encode_integers(name, array, trained[name], weight, quantiser.cohort, words)
            place += array.size
    counters = Trailer(
        peers=1,
        contributors=1,
        reporters=int(reports),
        weight=weight,
        examples=examples,
        clipped=int(clipped),
        roomy=int(roomy),
        capped=int(examples > quantiser.weight_cap),
    )
    vector.wide[place : place + len(metrics)] = metrics
    vector.wide[place + len(metrics) :] = trailers.encode(counters, quantiser.cohort)
    return vector


def encode_failure(layout: Layout, cohort: int) -> RingVector:
    """The addend of a peer whose training failed: zero, of weight zero. Masked it looks like any other."""
    vector = layout.zeros()
    vector.wide[-trailers.LENGTH :] = trailers.encode(Trailer(peers=1), cohort)
    return vector


def decode_update(
    quantiser: Quantiser, given: Arrays, total: RingVector, survivors: int
) -> tuple[dict[str, npt.NDArray[Any]], Trailer]:
    """The new model, with the shapes and dtypes of `given`, and the summed trailer.

    RemoteError: BAD_TRAILER where the counters contradict the number of survivors, TOO_FEW_CONTRIBUTORS
    where training failed on all of them.
    """
    counters = trailers.decode(total.wide[-trailers.LENGTH :], survivors)
    return new_model(given, [(quantiser, total)], counters.weight), counters


def new_model(
    given: Arrays, sums: Sequence[tuple[Quantiser, RingVector]], weight: int
) -> dict[str, npt.NDArray[Any]]:
    """`given` and the weighted mean of all updates in these sums, with its shapes and dtypes.

    `sums`: of disjoint groups that trained on it, one at least; `weight`: Σ min(n_i, cap) over all of them.
    """
    result: dict[str, npt.NDArray[Any]] = {}
    count = count_floats(given)
    entries = [quantiser.entries(total.body, count, weight) for quantiser, total in sums]
    body = wide = 0
    for name, array in given.items():
        new = result[name] = np.empty(array.shape, array.dtype)
        if array.dtype.kind == "f":
            part = slice(body, body + array.size)
            kernels.add_means(array, [(found[part], unit) for found, unit in entries], new)
            body += array.size
        else:
            _check_range(name, array)
            part = slice(wide, wide + array.size)
            kernels.add_integer_means(array, [total.wide[part] for _, total in sums], weight, new)
            wide += array.size
    return result


def count_floats(arrays: Arrays) -> int:
    """Entries that are in the body of a vector."""
    return sum(array.size for array in arrays.values() if array.dtype.kind == "f")


def contents_of(array: npt.NDArray[Any]) -> memoryview:
    """Its bytes in C order; no copy of an array that is in that order."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def model_digest(arrays: Arrays) -> bytes:
    """SHA-256 over names, dtypes, shapes and little-endian contents, 32 bytes."""
    # What `encoding.digest` gives of a list for each array, without its contents as one more copy.
    found = hashlib.sha256(canonical("model") + before_list(len(arrays)))
    for name, array in arrays.items():
        described = b"".join(map(encoded, [name, array.dtype.str, list(array.shape)]))
        contents = contents_of(array)
        found.update(before_list(4) + described + before_bytes(len(contents)))
        found.update(contents)
    return found.digest()


def diverged(changes: Sequence[Change]) -> LocalError:
    bad, place, value = 0, 0, 0.0
    for old, new in changes:
        with np.errstate(all="ignore"):
            update = np.subtract(new, old, dtype=np.float64, casting="same_kind").reshape(-1)
        entries = np.flatnonzero(~np.isfinite(update))
        if len(entries) and not bad:
            place, value = place + int(entries[0]), float(update[entries[0]])
        elif not bad:
            place += len(update)
        bad += len(entries)
    return LocalError(
        f"the update is {value} at entry {place} ({bad} such entries): training diverged"
    )


def _encode_integers(
    name: str,
    given: npt.NDArray[Any],
    trained: npt.NDArray[Any],
    weight: int,
    cohort: int,
    out: Elements,
) -> None:
    for array in (given, trained):
        _check_range(name, array)
    if not kernels.scaled_changes(given, trained, weight, (2**63 - 1) // cohort, out):
        raise LocalError(f"integer array {name!r} changes by too much to be summed exactly")


def _check_range(name: str, array: npt.NDArray[Any]) -> None:
    if array.dtype.kind == "u" and array.size and int(array.max()) > 2**63 - 1:
        raise LocalError(f"integer array {name!r} holds values above 2^63 - 1")
