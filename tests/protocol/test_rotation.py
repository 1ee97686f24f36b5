"""The rotation: Hadamard's matrix and random signs, undone to the bit, in blocks that add little."""

from __future__ import annotations

import numpy as np
import pytest

from smpcfl.protocol import kernels
from smpcfl.protocol.keystream import Secret, keystream
from smpcfl.protocol.rotation import block_size, padded, rotate, rotate_back

KEY = Secret(bytes(range(32)))


@pytest.mark.parametrize(
    ("count", "size"),
    [(0, 1), (1, 1), (63, 1), (64, 2), (2047, 32), (2048, 64), (10**5, 2048), (10**9, 2**16)],
)
def test_blocks_are_powers_of_two_and_pad_by_less_than_a_32nd(count: int, size: int) -> None:
    assert block_size(count) == size
    assert padded(count) % size == 0
    assert 0 <= padded(count) - count < max(count / 32, 1)


def naive(x: np.ndarray, size: int) -> np.ndarray:
    """By the definition: the sign of entry (i, j) is the parity of the bits that i and j share."""
    bits = np.unpackbits(
        np.frombuffer(keystream(KEY).update(bytes(-(-len(x) // 8))), np.uint8), bitorder="little"
    )[: len(x)]
    matrix = np.array(
        [[(-1) ** (i & j).bit_count() for j in range(size)] for i in range(size)], np.float64
    )
    return (matrix @ (x * (1.0 - 2.0 * bits)).reshape(size, -1)).ravel()


@pytest.mark.parametrize(("size", "blocks"), [(1, 5), (2, 3), (64, 40), (256, 33), (2048, 3)])
def test_it_is_the_transform_of_the_flipped_entries(size: int, blocks: int) -> None:
    x = np.random.default_rng(size).integers(-50, 50, size * blocks).astype(np.float32)
    found = x.copy()
    rotate(found, size, KEY)
    assert np.array_equal(found, naive(x, size))  # whole numbers below 2^24: exact
    rotate_back(found, size, KEY)
    assert np.array_equal(found, size * x)


@pytest.mark.parametrize("length", [0, 1, 7, 8, kernels.BLOCK // 4 + 3])
def test_signs_are_the_bits_of_the_keystream_from_the_lowest_on(length: int) -> None:
    x = np.ones(length, np.float32)
    kernels.flip(x, keystream(KEY))
    raw = keystream(KEY).update(bytes(-(-length // 8)))
    assert x.tolist() == [-1.0 if raw[i // 8] >> (i % 8) & 1 else 1.0 for i in range(length)]


def test_one_large_entry_is_spread_over_its_whole_block() -> None:
    x = np.zeros(2**16 * 2, np.float32)
    x[12345] = 256.0
    rotate(x, 2**16, KEY)
    assert set(np.abs(x)) == {0.0, 256.0}
    assert (x != 0).sum() == 2**16
