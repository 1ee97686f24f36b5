"""What no program on this machine can beat, measured in the same turns: raw AES, and reading memory once."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from .inputs import Floats

_BLOCK = 128 * 1024  # stays in the processor's cache
Words = npt.NDArray[np.unsignedinteger[Any]]


def keystream(count: int) -> None:
    """`count` bytes of AES-256 in counter mode, written over one small buffer again and again."""
    stream = Cipher(algorithms.AES256(secrets.token_bytes(32)), modes.CTR(bytes(16))).encryptor()
    zeros, buffer = memoryview(bytes(_BLOCK)), bytearray(_BLOCK + 15)
    for start in range(0, count, _BLOCK):
        stream.update_into(zeros[: min(_BLOCK, count - start)], buffer)


def read_update(given: Floats, trained: Floats) -> npt.NDArray[np.uint16]:
    """Reads both, and writes a new vector of half as many bytes, as a quantiser to 16 bits must."""
    into = np.empty(len(given), np.uint16)
    step = _BLOCK // given.itemsize
    difference = np.empty(step, np.float32)
    halves = difference.view(np.uint16)
    for start in range(0, len(given), step):
        part = into[start : start + step]
        np.subtract(
            trained[start : start + step],
            given[start : start + step],
            out=difference[: len(part)],
        )
        part[:] = halves[: len(part)]
    return into


def read_vectors(vectors: Iterable[Words]) -> None:
    """Reads each once, into one block."""
    block: Words | None = None
    for vector in vectors:
        step = _BLOCK // vector.itemsize
        if block is None:
            block = np.zeros(step, vector.dtype)
        for start in range(0, len(vector), step):
            part = vector[start : start + step]
            np.add(block[: len(part)], part, out=block[: len(part)])
