"""The ring Z_2^w and the vectors over it (docs/protocol.md, section 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from .errors import LocalError, Reason, RemoteError

WIDTHS = (16, 32, 64)
Elements: TypeAlias = npt.NDArray[np.unsignedinteger]
_DTYPES: dict[int, np.dtype[np.unsignedinteger]] = {
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
        return RingVector(np.zeros(self.body, self.dtype), np.zeros(self.wide, WIDE))

    def parse(self, raw: bytes, sender: str = "") -> RingVector:
        """The vector in `raw`; RemoteError(WRONG_LENGTH) unless it is exactly `nbytes` long."""
        if len(raw) != self.nbytes:
            raise RemoteError(
                Reason.WRONG_LENGTH, "vector", peer=sender, expected=self.nbytes, found=len(raw)
            )
        split = self.body * self.width // 8
        return RingVector(np.frombuffer(raw[:split], self.dtype), np.frombuffer(raw[split:], WIDE))


@dataclass(frozen=True, repr=False, eq=False)
class RingVector:
    """`body`: shape (m,), uint16/32/64; `wide`: shape (m',), uint64. Arithmetic wraps around."""

    body: Elements
    wide: Elements

    @property
    def layout(self) -> Layout:
        return Layout(self.body.dtype.itemsize * 8, self.body.shape[0], self.wide.shape[0])

    def __add__(self, other: RingVector) -> RingVector:
        return RingVector(self.body + other.body, self.wide + other.wide)

    def __sub__(self, other: RingVector) -> RingVector:
        return RingVector(self.body - other.body, self.wide - other.wide)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, RingVector)
            and self.body.dtype == other.body.dtype
            and np.array_equal(self.body, other.body)
            and np.array_equal(self.wide, other.wide)
        )

    def __repr__(self) -> str:
        return f"RingVector(body={self.body.shape[0]}x{self.body.dtype}, wide={self.wide.shape[0]})"

    def tobytes(self) -> bytes:
        return self.body.tobytes() + self.wide.tobytes()


def signed(values: Elements) -> npt.NDArray[np.int64]:
    """Ring elements read as two's complement, int64 of the same shape."""
    return values.view(np.dtype(f"<i{values.dtype.itemsize}")).astype(np.int64)
