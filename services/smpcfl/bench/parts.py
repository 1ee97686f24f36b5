"""The parts that a round is made of, each alone: masks, quantiser, secret sharing."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from ..protocol import trailer
from ..protocol.keystream import SEED_BYTES, Secret, expand
from ..protocol.masks import SeededMasks
from ..protocol.quantise import Quantiser, decode_update, encode_update
from ..protocol.ring import WIDTHS, Layout
from ..protocol.shamir import combine, split
from .timing import Timing, measure

PEERS = 8  # the cohort that masks and quantiser are measured for
# The digits model, without torch, which the registry's image does not have.
DIGITS = {
    "hidden.weight": (128, 784),
    "hidden.bias": (128,),
    "output.weight": (10, 128),
    "output.bias": (10,),
}
Figures = list[dict[str, Any]]


def masks(entries: Sequence[int], seconds: float) -> Figures:
    """MB/s (of 10^6 bytes of keystream): expanded alone, and expanded and added as a peer does."""
    figures: Figures = []
    for count in entries:
        for width in WIDTHS:
            layout = Layout(width, count, trailer.LENGTH)
            own, *pairs = (Secret(secrets.token_bytes(SEED_BYTES)) for _ in range(PEERS))
            half = len(pairs) // 2
            seeded = SeededMasks(own, tuple(pairs[:half]), tuple(pairs[half:]))
            addend = layout.zeros()
            expanding = measure(partial(expand, own, layout), seconds)
            applying = measure(partial(seeded.apply, addend), seconds)
            figures.append(
                {
                    "width": width,
                    "entries": count,
                    "bytes": layout.nbytes,
                    "masks": PEERS,
                    "expand": _rate(expanding, layout.nbytes),
                    "apply": _rate(applying, layout.nbytes * PEERS),
                }
            )
    return figures


def quantiser(seconds: float) -> Figures:
    """Seconds to encode one update of the digits model, and to decode a sum of them."""
    rng, key = np.random.default_rng(1), Secret(secrets.token_bytes(SEED_BYTES))
    given = {name: np.zeros(shape, np.float32) for name, shape in DIGITS.items()}
    trained = {n: rng.normal(0, 0.01, a.shape).astype(np.float32) for n, a in given.items()}
    figures: Figures = []
    for width in WIDTHS:
        rule = Quantiser(width, clip=1.0, weight_cap=500, cohort=PEERS)
        encode = partial(encode_update, rule, given, trained, examples=500, rounding=key)
        addend = encode()
        figures.append(
            {
                "width": width,
                "parameters": addend.body.shape[0],
                "encode": asdict(measure(encode, seconds)),
                "decode": asdict(measure(partial(decode_update, rule, given, addend, 1), seconds)),
            }
        )
    return figures


def shamir(degrees: Sequence[tuple[int, int]], seconds: float) -> Figures:
    """Seconds to split one secret among k holders, and to reconstruct it from t shares."""
    secret = secrets.token_bytes(32)
    figures: Figures = []
    for k, t in degrees:
        deal = partial(split, secret, t, k, secrets.token_bytes)
        some = dict(list(enumerate(deal(), 1))[-t:])
        figures.append(
            {
                "degree": k,
                "threshold": t,
                "split": asdict(measure(deal, seconds)),
                "reconstruct": asdict(measure(partial(combine, some), seconds)),
            }
        )
    return figures


def _rate(timing: Timing, count: int) -> dict[str, Any]:
    return {**asdict(timing), "mb_per_s": count / timing.median_s / 1e6}
