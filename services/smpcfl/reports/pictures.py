"""What the aggregator sees of one peer, as pictures: rows of one array of weights, in shades of grey.

The update of a layer that looks at images has strokes of what its peer trained on. A partial sum is noise.
"""

from __future__ import annotations

import base64
import json
import math
import struct
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..base.files import write_private

UPDATE, UPLOAD, SUM = "update", "upload", "sum"
KINDS = (UPDATE, UPLOAD, SUM)
_ROWS = 8
_LONGEST = 4096  # entries of a row, 64 x 64
_GREY = 127


@dataclass(frozen=True, kw_only=True)
class Picture:
    """`kind`: a peer's update in the clear, its upload (a partial sum), or the sum of all peers."""

    kind: str
    peer: str
    """Empty for the sum, and where nobody has to say who it is."""
    round: int
    array: str
    height: int
    width: int
    tiles: tuple[str, ...]
    """One row of the array each: `height` x `width` bytes of grey, base64."""

    @classmethod
    def of(cls, kind: str, peer: str, number: int, array: str, rows: npt.NDArray[Any]) -> Picture:
        """Of `rows`, shape (rows, entries): floats, or words of the ring, of which high bytes are shown."""
        width = math.isqrt(rows.shape[1] - 1) + 1
        height = -(-rows.shape[1] // width)
        grey = np.full((rows.shape[0], height * width), _GREY, np.uint8)
        grey[:, : rows.shape[1]] = _shades(rows)
        tiles = tuple(base64.b64encode(row.tobytes()).decode() for row in grey)
        return cls(
            kind=kind,
            peer=peer,
            round=number,
            array=array,
            height=height,
            width=width,
            tiles=tiles,
        )

    @classmethod
    def from_members(cls, members: object) -> Picture:
        """The inverse of `asdict`. ValueError for anything else."""
        if not isinstance(members, Mapping) or members.keys() != cls.__dataclass_fields__.keys():
            raise ValueError(f"a picture has {', '.join(cls.__dataclass_fields__)}")
        tiles = members["tiles"]
        numbers = [members[name] for name in ("round", "height", "width")]
        texts = [members[name] for name in ("kind", "peer", "array")]
        if not (
            isinstance(tiles, list | tuple)
            and all(isinstance(tile, str) for tile in tiles)
            and all(type(number) is int and 0 < number < 1 << 31 for number in numbers)
            and all(isinstance(text, str) for text in texts)
            and texts[0] in KINDS
        ):
            raise ValueError("a picture with members of other types")
        found = cls(**{**members, "tiles": tuple(tiles)})
        found.pngs()
        return found

    def pngs(self) -> list[bytes]:
        """Each tile as a PNG file. ValueError if it is not as long as its size says."""
        return [_png(base64.b64decode(tile), self.height, self.width) for tile in self.tiles]


def shown_rows(model: Mapping[str, npt.NDArray[Any]]) -> tuple[str, int, tuple[int, int]] | None:
    """Which array is shown, where it begins among all floats, and how many rows of how many entries.

    It is the first of two or more dimensions with rows of at least 64 entries, or else the first of all;
    None for a model without floats.
    """
    found, start = None, 0
    for name, array in model.items():
        if array.dtype.kind != "f" or not array.size:
            continue
        entries = array[0].size if array.ndim > 1 else array.size
        here = name, start, (min(array.size // entries, _ROWS), entries)
        if found is None:
            found = here
        if array.ndim > 1 and entries >= 64:
            return here
        start += array.size
    return found


def cut(flat: npt.NDArray[Any], start: int, shape: tuple[int, int]) -> npt.NDArray[Any]:
    """The rows out of all entries in one vector, each to its first entries."""
    rows, entries = shape
    return flat[start : start + rows * entries].reshape(shape)[:, :_LONGEST]


def _shades(rows: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    if rows.dtype.kind == "u":
        return (rows >> (8 * rows.itemsize - 8)).astype(np.uint8)
    # Each row by itself, from black (goes down) to white (goes up): units learn at different rates.
    largest = np.abs(rows).max(axis=1, keepdims=True)
    scaled = np.divide(rows, largest, out=np.zeros_like(rows), where=largest > 0)
    return np.asarray(np.rint(_GREY + _GREY * np.nan_to_num(scaled)), np.uint8)


def _png(grey: bytes, height: int, width: int) -> bytes:
    """Eight bits of grey a pixel (PNG, third edition, sections 5 and 11)."""
    if len(grey) != height * width:
        raise ValueError(f"a picture of {height} x {width} has {len(grey)} bytes")

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    lines = b"".join(b"\0" + grey[at : at + width] for at in range(0, len(grey), width))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(lines, 9))
        + chunk(b"IEND", b"")
    )


def keep(path: Path, pictures: list[Picture]) -> None:
    """OSError if they cannot be written."""
    write_private(path, json.dumps([asdict(picture) for picture in pictures]).encode())


def load(path: Path) -> list[Picture]:
    """None kept, or none that can be read: an empty list."""
    try:
        return [Picture.from_members(item) for item in json.loads(path.read_bytes())]
    except (OSError, ValueError, TypeError):
        return []
