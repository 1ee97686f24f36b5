"""The passes over whole vectors, in blocks that stay in the processor's cache.

None makes a temporary as long as a vector: here a model of 10^8 parameters takes no more room than its arrays
and its upload do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from .ring import Elements, signed_view

Array = npt.NDArray[Any]
BLOCK = 128 * 1024  # bytes of what a pass goes over; what it needs beside them is a few times that
_BEYOND = 15  # `update_into` wants room for a block of AES more than it writes, less a byte


class Stream(Protocol):
    """A keystream: `cryptography`'s CipherContext."""

    def update_into(self, data: Any, buf: Any) -> int: ...


class _Piece:
    """Of `count` entries of a keystream, in memory that each next one is put into."""

    def __init__(self, dtype: np.dtype[Any], count: int) -> None:
        self._zeros = bytes(count * dtype.itemsize)
        self._buffer = bytearray(count * dtype.itemsize + _BEYOND)
        self._entries = np.frombuffer(self._buffer, dtype, count)

    def sized(self, count: int) -> _Piece:
        """One of that length: this one, of all blocks but the last."""
        return self if len(self._entries) == count else _Piece(self._entries.dtype, count)

    def of(self, stream: Stream) -> Array:
        stream.update_into(self._zeros, self._buffer)
        return self._entries


def add_streams(parts: Iterable[Elements], plus: Sequence[Stream], minus: Sequence[Stream]) -> None:
    """Adds each stream of `plus`, and subtracts each of `minus`, in place; they go on from part to part."""
    for part in parts:
        piece = _Piece(part.dtype, 0)
        for words in _blocks(part, part.itemsize):
            piece = piece.sized(len(words))
            # All streams on one block before the next.
            for stream in plus:
                np.add(words, piece.of(stream), out=words)
            for stream in minus:
                np.subtract(words, piece.of(stream), out=words)


def quantise(
    changes: Iterable[tuple[Array, Array]],
    scale: float,
    floats: type[np.floating[Any]],
    chance: np.dtype[Any],
    stream: Stream,
    out: Elements,
) -> float:
    """Writes (rint(x · scale · 2^f) + u) >> f for each entry x; returns the largest |x|, NaN if one is.

    `changes`: pairs of arrays (old, new) of as many entries, and x = new − old in `floats`. u: the next f
    bits of `stream`, where f is the size of `chance`, an unsigned dtype of at most half of the floats' size.
    What is written means nothing where (|x · scale| + 1) · 2^f is beyond the integers of that size.
    """
    size = np.dtype(floats).itemsize
    integers, bits = np.dtype(f"<i{size}"), chance.itemsize * 8
    room, units = np.empty(BLOCK // size, floats), np.empty(BLOCK // size, integers)
    piece, factor = _Piece(chance, 0), floats(scale * 2.0**bits)
    largest, place = floats(0), 0
    with np.errstate(all="ignore"):
        for old, new in changes:
            for a, b in zip(_blocks(old, size), _blocks(new, size), strict=True):
                x, q = room[: len(a)], units[: len(a)]
                np.subtract(b, a, out=x, dtype=floats, casting="same_kind")
                largest = np.maximum(np.maximum(largest, x.max()), -x.min())  # NaN stays
                np.multiply(x, factor, out=x)
                piece = piece.sized(len(q))
                _round(x, q, piece.of(stream), bits, out[place : place + len(q)])
                place += len(q)
    return float(largest)


def differences(changes: Iterable[tuple[Array, Array]], out: Array) -> float:
    """Writes x = new − old, one pair after the other, as `out` is; returns Σ x². All in float64 but `out`."""
    place, squares, room = 0, 0.0, np.empty(BLOCK // 8)
    with np.errstate(all="ignore"):
        for old, new in changes:
            for a, b in zip(_blocks(old, 8), _blocks(new, 8), strict=True):
                x = room[: len(a)]
                np.subtract(b, a, out=x, dtype=np.float64, casting="same_kind")
                out[place : place + len(a)] = x
                np.multiply(x, x, out=x)
                squares += float(x.sum())
                place += len(a)
    return squares


def sum_of_squares(array: Array) -> float:
    """In float64."""
    parts = (np.square(part, dtype=np.float64) for part in _blocks(array, 8))
    return sum((float(part.sum()) for part in parts), 0.0)


def squared_distance(old: Array, new: Array) -> float:
    """Σ (new − old)² in float64."""
    pairs = zip(_blocks(old, 8), _blocks(new, 8), strict=True)
    return sum((sum_of_squares(b.astype(np.float64) - a) for a, b in pairs), 0.0)


def flip(x: Array, stream: Stream) -> None:
    """Negates each entry whose bit of `stream` is one, in place; the lowest bit of a byte is the first."""
    piece = _Piece(np.dtype("u1"), 0)
    for part in _blocks(x, x.itemsize):
        piece = piece.sized(-(-len(part) // 8))
        bits = np.unpackbits(piece.of(stream), count=len(part), bitorder="little")
        np.negative(part, out=part, where=bits.view(np.bool_))


def round_words(x: Array, stream: Stream, out: Elements) -> None:
    """Writes (rint(x · 2^16) + u) >> 16 for each entry, modulo the words' size; u: 16 bits of `stream` each.

    x, float32, is multiplied in place.
    """
    units, piece = np.empty(BLOCK // 4, np.int32), _Piece(np.dtype("<u2"), 0)
    # An entry beyond 2^15 comes out as any other one: there is none.
    with np.errstate(all="ignore"):
        for part, words in zip(_blocks(x, 4), _blocks(out, 4), strict=True):
            np.multiply(part, np.float32(2**16), out=part)
            piece = piece.sized(len(part))
            _round(part, units[: len(part)], piece.of(stream), 16, words)


def _round(x: Array, q: Array, chance: Array, bits: int, out: Elements) -> None:
    np.rint(x, out=x)
    np.copyto(q, x, casting="unsafe")
    np.add(q, chance, out=q)
    np.right_shift(q, bits, out=q)
    np.copyto(out, q, casting="unsafe")


def loudest_column(words: Array, rows: int) -> float:
    """The largest root mean square of a column of `words`, shape (rows · k,), read as `rows` rows."""
    table = words.reshape(rows, -1)
    squares, step = np.zeros(table.shape[1]), max(BLOCK // (8 * max(table.shape[1], 1)), 1)
    for start in range(0, rows, step):
        part = table[start : start + step].astype(np.float64)
        squares += np.einsum("ij,ij->j", part, part)
    return float(np.sqrt(squares.max(initial=0.0) / rows))


def add_means(given: Array, sums: Sequence[tuple[Array, float]], out: Array) -> None:
    """Writes given + Σ entries · unit, computed in float64; words are read as two's complement."""
    room, more = np.empty(BLOCK // 8), np.empty(BLOCK // 8)
    parts = [
        (_blocks(signed_view(found) if found.dtype.kind == "u" else found, 8), unit)
        for found, unit in sums
    ]
    for old, new in zip(_blocks(given, 8), _blocks(out, 8), strict=True):
        mean, other = room[: len(old)], more[: len(old)]
        mean[:] = 0.0
        for found, unit in parts:
            np.multiply(next(found), unit, out=other, dtype=np.float64)
            np.add(mean, other, out=mean)
        np.add(old, mean, out=mean)
        np.copyto(new, mean, casting="same_kind")


def scaled_changes(old: Array, new: Array, weight: int, bound: int, out: Elements) -> bool:
    """Writes (new − old) · weight of integers; False if one is above `bound` in magnitude.

    Each entry of both is at most 2^63 − 1.
    """
    words = signed_view(out)
    for a, b, q in zip(_blocks(old, 8), _blocks(new, 8), _blocks(words, 8), strict=True):
        before, after = a.astype(np.int64), b.astype(np.int64)
        change = after - before
        # A difference that wraps has another sign than `after`, which has another one than `before`.
        wrapped = ((after ^ before) & (after ^ change)) < 0
        if wrapped.any() or change.max() > bound // weight or change.min() < -(bound // weight):
            return False
        np.multiply(change, weight, out=q)
    return True


def add_integer_means(given: Array, sums: Sequence[Elements], weight: int, out: Array) -> None:
    """Writes given + Σ words / weight of integers, rounded half up; words as two's complement."""
    parts = [_blocks(signed_view(words), 8) for words in sums]
    for old, new in zip(_blocks(given, 8), _blocks(out, 8), strict=True):
        # Quotients and rests are added, because the words together could wrap.
        divided = [np.divmod(next(words), weight) for words in parts]
        quotient = sum(found for found, _ in divided)
        more, rest = np.divmod(sum(left for _, left in divided), weight)
        mean = np.asarray(quotient + more + (rest >= weight - rest))
        np.copyto(new, old.astype(np.int64) + mean, casting="unsafe")


def _blocks(array: Array, itemsize: int) -> Iterator[Array]:
    """Flat views of a contiguous array, each of as many entries as take BLOCK bytes with that size."""
    flat, step = array.reshape(-1), BLOCK // itemsize
    return (flat[start : start + step] for start in range(0, len(flat), step))
