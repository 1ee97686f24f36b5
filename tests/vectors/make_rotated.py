"""Known answers of the quantiser of eight bits, all of which can be computed without rounding in between."""

from __future__ import annotations

import numpy as np

from smpcfl.protocol.keystream import Secret
from smpcfl.protocol.quantise import new_model
from smpcfl.protocol.ring import RingVector
from smpcfl.protocol.rotated import RotatedQuantiser
from smpcfl.protocol.rotation import block_size, padded
from vectors.files import LOCAL, Json, case, floats, number, numbers, refused, topic

SIGNS, ROUNDING = bytes(range(32)), bytes(range(32, 64))


def rotated() -> Json:
    """Updates in steps of a power of two, scaled by one: each sum within the transform is exact."""
    vectors = []
    for name, count, scale, clip, examples in (
        ("blocks of one entry", 5, 2.0**-3, 127 / 256, 16),
        ("blocks of two, the last padded", 65, 2.0**-4, 127 / 256, 16),
        ("blocks of eight, a weight of a quarter", 300, 2.0**-3, 127 / 512, 4),
        ("beyond the clip", 70, 64.0, 127 / 256, 16),
        ("nothing learnt", 66, 0.0, 127 / 256, 16),
    ):
        update = [(i * 7 % 13 - 6) * scale for i in range(count)]
        one = RotatedQuantiser(8, clip, 16, 4, signs=Secret(SIGNS))
        elements = np.zeros(padded(count), "<u1")
        array = np.array(update, "<f4")
        clipped, _ = one.encode(
            [(np.zeros_like(array), array)], examples, Secret(ROUNDING), elements
        )
        vectors.append(
            case(
                "encode",
                name,
                {**_given(clip), "update": floats(update), "examples": examples},
                {
                    "block": block_size(count),
                    "elements": numbers(elements),
                    "clipped": clipped,
                },
            )
        )
    for name, count in (("blocks of one", 5), ("blocks of two", 65), ("blocks of eight", 300)):
        words = [i * i * 31 % 256 for i in range(padded(count))]
        one = RotatedQuantiser(8, 0.75, 16, 4, signs=Secret(SIGNS))
        vector = RingVector.of(np.array(words, "<u1"), np.zeros(0, "<u8"))
        mean = new_model({"w": np.zeros(count)}, [(one, vector)], 40)["w"]
        vectors.append(
            case(
                "decode",
                name,
                {**_given(0.75), "total": numbers(vector.body), "count": count, "weight": 40},
                {
                    "mean": floats(mean),
                    "fitting": float(one.fitting_clip(vector.body, count, 3)).hex(),
                },
            )
        )
    base = {**_given(1.0), "update": floats([0.5]), "examples": 1}
    bad = [
        refused("encode", "NaN", base | {"update": ["nan"]}, LOCAL),
        refused("encode", "a clip of zero", base | {"clip": (0.0).hex()}, LOCAL),
        refused("encode", "a clip too small", base | {"clip": (1e-31).hex()}, LOCAL),
    ]
    what = "Eight bits: rotated, rounded with a given key, and back."
    return topic(what, "4", vectors, bad)


def _given(clip: float) -> Json:
    return {
        "clip": clip.hex(),
        "weight_cap": number(16),
        "cohort": number(4),
        "signs": SIGNS.hex(),
        "rounding": ROUNDING.hex(),
    }


TOPICS = {"rotated": rotated}
