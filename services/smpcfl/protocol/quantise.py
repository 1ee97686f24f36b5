"""Fixed-point quantiser with stochastic rounding (docs/protocol.md, section 4).

One peer adds x * weight, with weight = min(n_i, cap) / (n * cap), so that all weights together are
at most 1: the sum, not the addend, needs the ring's width. With `span` = scale * clip,
span + n <= 2^(w-1) - 1 leaves room for each of n peers to be rounded up by less than one unit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import trailer as trailers
from .encoding import digest
from .errors import LocalError
from .ring import WIDE, Elements, Layout, RingVector, signed
from .trailer import Trailer

Arrays = Mapping[str, npt.NDArray[Any]]
_SPAN_LIMIT = 2**52  # beyond it float64 has no fraction left to round stochastically
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
        if not (np.isfinite(self.clip) and self.clip > 0):
            raise LocalError(f"clip must be a positive number, not {self.clip}")
        if self.weight_cap < 1:
            raise LocalError(f"weight cap must be at least 1, not {self.weight_cap}")
        if self.span < 1:
            raise LocalError(f"a ring of {self.width} bits cannot sum {self.cohort} peers")

    @property
    def span(self) -> int:
        """scale * clip: what an entry at the clip with weight 1 becomes."""
        return min((1 << (self.width - 1)) - 1 - self.cohort, _SPAN_LIMIT)

    def encode(
        self,
        update: npt.NDArray[np.float64],
        examples: int,
        rng: np.random.Generator,
    ) -> tuple[Elements, bool, bool]:
        """Ring elements of `update`, shape (m,); whether it was beyond the clip; whether below clip/2.

        An update beyond the clip is scaled down as a whole: cut entry by entry it would be, for a tiny clip,
        the sign of each entry times the number of examples. LocalError where an entry is NaN or infinite.
        """
        finite = np.isfinite(update)
        if not finite.all():
            bad = int(np.flatnonzero(~finite)[0])
            raise LocalError(
                f"the update is {update[bad]} at entry {bad} ({int((~finite).sum())} such entries):"
                " training diverged"
            )
        largest = float(np.abs(update).max(initial=0.0))
        weight = min(examples, self.weight_cap) / (self.cohort * self.weight_cap)
        scaled = update / max(self.clip, largest) * (self.span * weight)
        rounded = np.floor(scaled + rng.random(scaled.shape[0])).astype(np.int64)
        elements = rounded.astype(np.dtype(f"<i{self.width // 8}"))
        return (
            elements.view(np.dtype(f"<u{self.width // 8}")),
            largest > self.clip,
            largest < self.clip / 2,
        )

    def decode(self, total: Elements, weight: int) -> npt.NDArray[np.float64]:
        """The weighted mean update, shape (m,), from the sum and the trailer's Σ min(n_i, cap)."""
        unit = self.clip / self.span * (self.cohort * self.weight_cap / weight)
        return signed(total).astype(np.float64) * unit


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
        """Ring layout: floats in the body; integers, words of `metrics` and the trailer in the wide part."""
        counts = {"body": 0, "wide": metrics + trailers.LENGTH}
        for _, shape, dtype in self.entries:
            counts[_part(dtype)] += int(np.prod(shape, dtype=np.int64))
        return Layout(width, counts["body"], counts["wide"])

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
    rng: np.random.Generator,
    metrics: Elements = NO_WORDS,
    reports: bool = True,
) -> RingVector:
    """A peer's addend q_i: the update trained - given, metrics and the trailer, before any mask.

    `metrics`: its words of them, uint64, shape (w,); noise if it does not `report` any.

    LocalError for shapes that do not match, NaN, infinity, or counters out of range.
    """
    shape = ModelShape.of(given)
    shape.check(trained)
    if examples < 1:
        raise LocalError(f"number of examples must be at least 1, not {examples}")
    floats = [
        trained[name].astype(np.float64).ravel() - array.astype(np.float64).ravel()
        for name, array in given.items()
        if array.dtype.kind == "f"
    ]
    body, clipped, roomy = quantiser.encode(np.concatenate([np.zeros(0), *floats]), examples, rng)
    weight = min(examples, quantiser.weight_cap)
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
    integers = [
        _integer_addend(name, array, trained[name], weight, quantiser.cohort)
        for name, array in given.items()
        if array.dtype.kind != "f"
    ]
    wide = np.concatenate([*integers, metrics, trailers.encode(counters, quantiser.cohort)])
    return RingVector(body, wide)


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
    parts = [quantiser.decode(total.body, weight) for quantiser, total in sums]
    update = sum(parts[1:], parts[0])
    result: dict[str, npt.NDArray[Any]] = {}
    body = wide = 0
    for name, array in given.items():
        if array.dtype.kind == "f":
            part = update[body : body + array.size].reshape(array.shape)
            body += array.size
            result[name] = np.asarray(array.astype(np.float64) + part).astype(array.dtype)
        else:
            mean = _rounded_mean(
                [signed(total.wide)[wide : wide + array.size] for _, total in sums], weight
            )
            wide += array.size
            changed = np.asarray(_to_int64(name, array) + mean.reshape(array.shape))
            result[name] = changed.astype(array.dtype)
    return result


def _rounded_mean(changes: list[npt.NDArray[np.int64]], weight: int) -> npt.NDArray[np.int64]:
    """Half up. Quotients and rests are added, because the changes together could wrap."""
    divided = [np.divmod(change, weight) for change in changes]
    quotient = sum(found for found, _ in divided)
    more, rest = np.divmod(sum(left for _, left in divided), weight)
    return np.asarray(quotient + more + (rest >= weight - rest))


def model_digest(arrays: Arrays) -> bytes:
    """SHA-256 over names, dtypes, shapes and little-endian contents, 32 bytes."""
    return digest(
        "model",
        [
            [name, array.dtype.str, list(array.shape), np.ascontiguousarray(array).tobytes()]
            for name, array in arrays.items()
        ],
    )


def _integer_addend(
    name: str, given: npt.NDArray[Any], trained: npt.NDArray[Any], weight: int, cohort: int
) -> Elements:
    for array in (given, trained):
        _to_int64(name, array)
    # Python integers here: int64 would wrap around before the range could be checked.
    bound = (2**63 - 1) // cohort
    change = [
        (int(new) - int(old)) * weight for new, old in zip(trained.flat, given.flat, strict=True)
    ]
    if any(abs(value) > bound for value in change):
        raise LocalError(f"integer array {name!r} changes by too much to be summed exactly")
    return np.array(change, np.int64).view(WIDE)


def _to_int64(name: str, array: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    if array.dtype.kind == "u" and array.size and int(array.max()) > 2**63 - 1:
        raise LocalError(f"integer array {name!r} holds values above 2^63 - 1")
    return array.astype(np.int64)
