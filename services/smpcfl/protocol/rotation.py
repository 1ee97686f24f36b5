"""Random signs and a Walsh-Hadamard transform in blocks, after which all entries are of about one size.

Suresh, Yu, Kumar, McMahan: Distributed Mean Estimation with Limited Communication (ICML 2017), section 3.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from .kernels import flip
from .keystream import Secret, keystream

Floats = npt.NDArray[np.float32]
# Of a block, as a power of two: what a sum of 128 · 2^16 comes to is exact in float32.
_LARGEST = 16
_COLUMNS = 16  # a line of the processor's cache
_RADIX = 32


def block_size(count: int) -> int:
    """Entries that are mixed with one another, of `count`: a power of two, at most a 32nd of them."""
    return 1 << min(max(count // 32, 1).bit_length() - 1, _LARGEST)


def padded(count: int) -> int:
    """Entries of whole blocks."""
    size = block_size(count)
    return -(-count // size) * size


def rotate(x: Floats, size: int, key: Secret) -> None:
    """In place: signs, then the transform, unnormalised. `x`: shape (size · k,); `key`: of the signs.

    Entry j is in block j mod k, so that each part of a model is spread over all of them.
    """
    flip(x, keystream(key))
    _transform(x, size)


def rotate_back(y: Floats, size: int, key: Secret) -> None:
    """The inverse of `rotate`, times `size`, in place."""
    _transform(y, size)
    flip(y, keystream(key))


def _transform(x: Floats, size: int) -> None:
    rows = x.reshape(size, -1)
    for start in range(0, rows.shape[1] if size > 1 else 0, _COLUMNS):
        columns = rows[:, start : start + _COLUMNS]
        part, done = np.ascontiguousarray(columns), 1
        while done < size:
            radix = min(size // done, _RADIX)
            part = np.matmul(_matrix(radix), part.reshape(done, radix, -1))
            done *= radix
        columns[:] = part.reshape(columns.shape)


@cache
def _matrix(size: int) -> Floats:
    """Hadamard's, of a power of two."""
    found = np.ones((1, 1), np.float32)
    while len(found) < size:
        found = np.block([[found, found], [found, -found]])
    return found
