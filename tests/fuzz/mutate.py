"""Bad bytes made from good ones: blind to their meaning, or along the fields of a protobuf message."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_LONGEST = 1 << 16  # of an input: what is larger is refused by gRPC or read in chunks
_NUMBERS = (0, 1, 2, 127, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
_PIECES = (
    b"",
    b"\0",
    b"\xff" * 32,
    bytes(32),
    bytes(33),
    bytes(64),
    b"\xff\xfe\x80 name",
    b"a" * 300,
)

Field = tuple[int, int, int | bytes]  # number, wire type, value


def mutant(rng: random.Random, seeds: Sequence[bytes], *, fields: bool) -> bytes:
    """One bad input. With `fields` the seeds are protobuf messages, and half of it follows them."""
    how = rng.random()
    if how < 0.05 or not seeds:
        return rng.randbytes(rng.choice((0, 1, 2, 8, 33, 64, 200)))
    seed = rng.choice(seeds)
    if fields and how < 0.55:
        return _along_fields(rng, seed, rng.choice(seeds))[:_LONGEST]
    data = bytearray(seed)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        rng.choice(_BLIND)(rng, data, seeds)
    return bytes(data[:_LONGEST])


def shrunk(data: bytes, fails: Callable[[bytes], bool], tries: int = 2000) -> bytes:
    """A shorter input that fails as well."""
    size = max(len(data) // 2, 1)
    while size and tries:
        place = 0
        while place < len(data) and tries:
            tries -= 1
            shorter = data[:place] + data[place + size :]
            if fails(shorter):
                data = shorter
            else:
                place += size
        size //= 2
    return data


# -- blind ------------------------------------------------------------------------------------------


def _flip(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _overwrite(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    if data:
        data[rng.randrange(len(data))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))


def _cut(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _take_out(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    start = rng.randrange(len(data) + 1)
    del data[start : start + rng.choice((1, 2, 8, 33))]


def _put_in(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    start = rng.randrange(len(data) + 1)
    data[start:start] = rng.randbytes(rng.choice((1, 2, 8, 33)))


def _number(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    start = rng.randrange(len(data) + 1)
    data[start : start + 1] = varint(rng.choice(_NUMBERS))


def _twice(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    data += data[rng.randrange(len(data) + 1) :]


def _splice(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    other = rng.choice(seeds)
    data[rng.randrange(len(data) + 1) :] = other[rng.randrange(len(other) + 1) :]


_BLIND = (_flip, _flip, _overwrite, _cut, _take_out, _put_in, _number, _twice, _splice)


# -- along the fields -------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, place


def read_fields(data: bytes) -> list[Field]:
    """ValueError or IndexError if these are not the bytes of a message."""
    found: list[Field] = []
    place = 0
    while place < len(data):
        key, place = _read_varint(data, place)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, place = _read_varint(data, place)
            found.append((number, kind, value))
            continue
        if kind == BYTES:
            size, place = _read_varint(data, place)
        elif kind in (FIXED64, FIXED32):
            size = 8 if kind == FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if number == 0 or place + size > len(data):
            raise ValueError("no message")
        found.append((number, kind, data[place : place + size]))
        place += size
    return found


def write_fields(fields: Sequence[Field]) -> bytes:
    return b"".join(_write(fields))


def _write(fields: Sequence[Field]) -> Iterator[bytes]:
    for number, kind, value in fields:
        yield varint(number << 3 | kind)
        if isinstance(value, int):
            yield varint(value)
        else:
            if kind == BYTES:
                yield varint(len(value))
            yield value


def _along_fields(rng: random.Random, seed: bytes, other: bytes) -> bytes:
    try:
        fields = read_fields(seed)
    except (ValueError, IndexError):
        return seed
    if not fields:
        return seed
    for _ in range(rng.choice((1, 1, 2, 4))):
        _change(rng, fields, other)
        if not fields:
            break
    return write_fields(fields)


def _change(rng: random.Random, fields: list[Field], other: bytes) -> None:
    place = rng.randrange(len(fields))
    number, kind, value = fields[place]
    how = rng.randrange(8)
    if how == 0:
        del fields[place]
    elif how == 1:
        fields[place:place] = [fields[place]] * rng.choice((1, 1, 3, 300))
    elif how == 2:
        swap = rng.randrange(len(fields))
        fields[place], fields[swap] = (
            (number, *fields[swap][1:]),
            (fields[swap][0], kind, value),
        )
    elif how == 3:
        fields[place] = (rng.choice((number + 1, max(number - 1, 1), 19)), kind, value)
    elif how == 4:
        fields[place] = (number, VARINT, rng.choice(_NUMBERS))
    elif how == 5 and isinstance(value, bytes):
        fields[place] = (number, kind, _resized(rng, kind, value))
    elif how == 6:
        fields[place] = (number, BYTES, rng.choice((*_PIECES, other)))
    elif isinstance(value, bytes) and kind == BYTES:
        fields[place] = (number, kind, _along_fields(rng, value, other))
    else:
        fields[place] = (number, VARINT, rng.getrandbits(rng.choice((8, 16, 32, 64))))


def _resized(rng: random.Random, kind: int, value: bytes) -> bytes:
    if kind != BYTES:
        return rng.choice((b"\xff" * len(value), bytes(len(value)), value[::-1]))
    return rng.choice((value[:-1], value + b"\0", value * 2, value[: len(value) // 2], value[::-1]))
