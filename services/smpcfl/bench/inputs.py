"""Vectors and masks for the cases, and what takes masks off without our kernels."""

from __future__ import annotations

import secrets

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from ..protocol.keystream import SEED_BYTES, Secret
from ..protocol.masks import SeededMasks
from ..protocol.quantise import Arrays, Quantiser, encode_update
from ..protocol.ring import Layout, RingVector

WEIGHT_CAP = 500
Floats = npt.NDArray[np.float32]


def encode(quantiser: Quantiser, given: Arrays, trained: Arrays) -> RingVector:
    """A peer's addend, for an update of full weight."""
    rounding = Secret(secrets.token_bytes(SEED_BYTES))
    return encode_update(quantiser, given, trained, examples=WEIGHT_CAP, rounding=rounding)


def unmasked(masks: SeededMasks, partial_sum: RingVector) -> RingVector:
    """The addend again, without our kernels: one whole keystream after the other."""
    addend = partial_sum
    for key in (masks.self_key, *masks.plus):
        addend = addend - _keystream(key, addend.layout)
    for key in masks.minus:
        addend = addend + _keystream(key, addend.layout)
    return addend


def _keystream(key: Secret, layout: Layout) -> RingVector:
    stream = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()
    return layout.parse(stream.update(bytes(layout.nbytes)))


def some_masks(count: int) -> SeededMasks:
    """A self mask, and half of the others added, half subtracted."""
    own, *pairs = (Secret(secrets.token_bytes(SEED_BYTES)) for _ in range(count))
    half = len(pairs) // 2
    return SeededMasks(own, tuple(pairs[:half]), tuple(pairs[half:]))


def update_of(parameters: int, seed: int = 1) -> tuple[Floats, Floats]:
    """A model, and the same after a training. Made without another array beside the two."""
    rng = np.random.default_rng(seed)
    given, trained = np.empty(parameters, np.float32), np.empty(parameters, np.float32)
    for array in (given, trained):
        rng.standard_normal(dtype=np.float32, out=array)
    trained *= np.float32(0.01)
    trained += given
    return given, trained
