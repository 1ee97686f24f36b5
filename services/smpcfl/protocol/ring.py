"""The ring Z_2^w and the vectors over it (docs/protocol.md, section 3)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from .errors import LocalError, Reason, RemoteError

WIDTHS = (8, 16, 32, 64)
Elements: TypeAlias = npt.NDArray[np.unsignedinteger]
Raw: TypeAlias = bytes | bytearray | memoryview
_DTYPES: dict[int, np.dtype[np.unsignedinteger]] = {
    8: np.dtype("<u1"),
    16: np.dtype("<u2"),
    32: np.dtype("<u4"),
    64: np.dtype("<u8"),
}
WIDE = _DTYPES[64]


@dataclass(frozen=True)
class Layout:
    """Shape of a round's vectors: `body` elements of `width` bits, then `wide` elements of 64 bits.

    The wide part holds the integer buffers of the model, then the trailer.
    """

    width: int
    body: int
    wide: int

    def __post_init__(self) -> None:
        if self.width not in WIDTHS:
            raise LocalError(f"ring width must be one of {WIDTHS}, not {self.width}")
        if self.body < 0 or self.wide < 0:
            raise LocalError(f"negative vector length: body {self.body}, wide {self.wide}")

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger]:
        return _DTYPES[self.width]

    @property
    def nbytes(self) -> int:
        """Length of one vector on the wire, in bytes."""
        return self.body * self.width // 8 + self.wide * 8

    def zeros(self) -> RingVector:
        return RingVector(self, np.zeros(self.nbytes, np.uint8).data)

    def parse(self, raw: Raw, sender: str = "") -> RingVector:
        """The vector in `raw`; RemoteError(WRONG_LENGTH) unless it is exactly `nbytes` long."""
        if len(raw) != self.nbytes:
            raise RemoteError(
                Reason.WRONG_LENGTH, "vector", peer=sender, expected=self.nbytes, found=len(raw)
            )
        return RingVector(self, raw)


@dataclass(frozen=True, repr=False, eq=False)
class RingVector:
    """Its bytes as they are on the wire, and two views of them. Arithmetic wraps around."""

    layout: Layout
    raw: Raw

    @classmethod
    def of(cls, body: Elements, wide: Elements) -> RingVector:
        """A copy of these: shape (m,), uint8/16/32/64, and shape (m',), uint64."""
        vector = Layout(body.dtype.itemsize * 8, len(body), len(wide)).zeros()
        vector.body[:], vector.wide[:] = body, wide
        return vector

    @cached_property
    def body(self) -> Elements:
        """Shape (m,), uint8/16/32/64; can be written to if `raw` can."""
        return np.frombuffer(self.raw, self.layout.dtype, self.layout.body)

    @cached_property
    def wide(self) -> Elements:
        """Shape (m',), uint64; can be written to if `raw` can."""
        split = self.layout.body * self.layout.width // 8
        return np.frombuffer(self.raw, WIDE, self.layout.wide, split)

    def copy(self) -> RingVector:
        return RingVector(self.layout, bytearray(self.raw))

    def __iadd__(self, other: RingVector) -> RingVector:
        np.add(self.body, other.body, out=self.body)
        np.add(self.wide, other.wide, out=self.wide)
        return self

    def __isub__(self, other: RingVector) -> RingVector:
        np.subtract(self.body, other.body, out=self.body)
        np.subtract(self.wide, other.wide, out=self.wide)
        return self

    def __add__(self, other: RingVector) -> RingVector:
        total = self.copy()
        total += other
        return total

    def __sub__(self, other: RingVector) -> RingVector:
        total = self.copy()
        total -= other
        return total

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, RingVector)
            and self.layout == other.layout
            and memoryview(self.raw) == memoryview(other.raw)
        )

    def __repr__(self) -> str:
        return f"RingVector(body={self.layout.body}x{self.layout.dtype}, wide={self.layout.wide})"

    def tobytes(self) -> bytes:
        return bytes(self.raw)


def signed_view(values: Elements) -> npt.NDArray[np.signedinteger]:
    """The same memory read as two's complement."""
    return values.view(np.dtype(f"<i{values.dtype.itemsize}"))


def signed(values: Elements) -> npt.NDArray[np.int64]:
    """Ring elements read as two's complement, int64 of the same shape."""
    return signed_view(values).astype(np.int64)
