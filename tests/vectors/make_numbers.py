"""Known answers of the quantiser, the trailer, and two tables."""

from __future__ import annotations

import numpy as np

from smpcfl.protocol import trailer
from smpcfl.protocol.guarantee import withstands
from smpcfl.protocol.keystream import Secret
from smpcfl.protocol.quantise import (
    ModelShape,
    Quantiser,
    decode_update,
    encode_failure,
    encode_update,
    new_model,
)
from smpcfl.protocol.release import release_ms
from smpcfl.protocol.ring import RingVector
from smpcfl.protocol.ticket import default_threshold
from vectors.files import (
    LOCAL,
    Json,
    case,
    floats,
    number,
    numbers,
    refused,
    topic,
)
from vectors.given import (
    METRICS,
    arrays_json,
    five,
    layout_json,
    model,
    vector_json,
)

ROUNDING = bytes(range(64, 96))


def quantiser() -> Json:
    ulp = 2.0**-52
    some = [0.1, -0.2, 0.0, 0.375]
    cases: dict[str, tuple[int, float, int, int, str, list[float], int]] = {
        # width, clip, weight cap, cohort, dtype, update, examples
        "below the clip": (16, 0.5, 100, 5, "<f8", some, 40),
        "at the clip": (16, 0.5, 100, 5, "<f8", [0.5, -0.5, 0.25], 100),
        "beyond the clip: scaled as a whole": (16, 0.5, 100, 5, "<f8", [2.0, -1.0, 0.5], 100),
        "just below half the clip": (16, 0.5, 100, 5, "<f8", [0.25 - ulp], 100),
        "more examples than the cap": (16, 0.5, 100, 5, "<f8", [0.1, -0.3], 1000),
        "float32: computed in float32": (16, 0.5, 100, 5, "<f4", some, 40),
        "float32 beyond the clip": (16, 0.1, 100, 5, "<f4", [0.3, -0.1, 1 / 3, 1e-7], 99),
        "float16: computed in float32": (16, 0.5, 100, 5, "<f2", some, 40),
        "32 bits": (32, 1.0, 64, 3, "<f8", [0.3, -0.3], 64),
        "32 bits of float32: computed in float64": (32, 1.0, 64, 3, "<f4", [0.3, -0.3], 64),
        "64 bits, where 2^52 limits the span": (64, 4.0, 10, 7, "<f8", [4.0, -4.0, 1e-9], 10),
        "a tiny clip": (16, 2.0**-10, 16, 5, "<f8", [1e-12, -1e-3, 1.0], 3),
        "a clip that float32 has no scale for": (16, 1e-40, 16, 5, "<f4", [1e-41, -1e-40], 3),
        "an empty update": (16, 1.0, 100, 5, "<f8", [], 10),
        "a cohort of 1024": (16, 1.0, 2**20, 1024, "<f8", [1.0, -1.0, 0.5], 2**20),
    }
    vectors = []
    for name, (width, clip, cap, cohort, dtype, update, examples) in cases.items():
        one, array = Quantiser(width, clip, cap, cohort), np.array(update, dtype)
        elements = np.zeros(len(update), f"<u{width // 8}")
        change = [(np.zeros_like(array), array)]
        clipped, roomy = one.encode(change, examples, Secret(ROUNDING), elements)
        vectors.append(
            case(
                "encode",
                name,
                {
                    "quantiser": _quantiser(one),
                    "dtype": dtype,
                    "update": floats(map(float, array)),
                    "examples": examples,
                    "rounding": ROUNDING.hex(),
                },
                {
                    "span": number(one.span),
                    "elements": numbers(elements),
                    "clipped": clipped,
                    "roomy": roomy,
                },
            )
        )
    for name, width, cohort, total, weight in (
        ("16 bits, positive and negative", 16, 5, [0, 1, 32767, 32768, 65535], 260),
        ("32 bits", 32, 3, [12345, 2**32 - 12345, 2**31 - 1], 7),
        ("64 bits", 64, 7, [2**52, 2**64 - 2**52, 3], 70),
    ):
        one = Quantiser(width, 0.3, 100, cohort)
        vector = RingVector.of(np.array(total, f"<u{width // 8}"), np.zeros(0, "<u8"))
        mean = new_model({"w": np.zeros(len(total))}, [(one, vector)], weight)["w"]
        vectors.append(
            case(
                "decode",
                name,
                {"quantiser": _quantiser(one), "total": numbers(total), "weight": weight},
                {"mean": floats(mean)},
            )
        )
    vectors += _updates()
    base = {
        "quantiser": {"width": 16, "clip": (1.0).hex(), "weight_cap": 100, "cohort": 5},
        "examples": 10,
        "dtype": "<f8",
        "rounding": ROUNDING.hex(),
    }
    bad = [
        refused("encode", name, base | {"update": [value]}, LOCAL)
        for name, value in (("NaN", "nan"), ("infinity", "inf"), ("minus infinity", "-inf"))
    ]
    for name, change in {
        "a clip of zero": {"clip": (0.0).hex()},
        "an infinite clip": {"clip": "inf"},
        "a clip too small for float64's scale": {"clip": (1e-101).hex()},
        "a clip too large for it": {"clip": (1e101).hex()},
        "no weight cap": {"weight_cap": 0},
        "more peers than 16 bits can sum": {"cohort": 2**15},
    }.items():
        changed = base["quantiser"] | change  # type: ignore[operator]
        bad.append(refused("quantiser", name, {"quantiser": changed}, LOCAL))
    bad += _bad_updates()
    return topic("Fixed point with a given key of the rounding, and back.", "4", vectors, bad)


def _quantiser(one: Quantiser) -> Json:
    return {
        "width": one.width,
        "clip": one.clip.hex(),
        "weight_cap": one.weight_cap,
        "cohort": one.cohort,
    }


def _updates() -> list[Json]:
    """Whole updates: arrays in, a vector out; and a sum in, the new model out."""
    one, given = Quantiser(16, 0.5, 100, 5), model()
    trained = {
        "layer.weight": np.array([[0.75, -1.5], [0.0625, 2.875]], "<f4"),
        "layer.steps": np.array([10, -9], "<i8"),
        "layer.bias": np.array([0.25], "<f8"),
    }
    words = METRICS.encode({"accuracy": 0.625, "loss": 0.3125}, 120, 5)
    addends = {
        reports: encode_update(
            one,
            given,
            trained,
            examples=120,
            metrics=words,
            reports=reports,
            rounding=Secret(ROUNDING),
        )
        for reports in (True, False)
    }
    shape = ModelShape.of(given).layout(16, METRICS.words)
    total = RingVector.of(
        np.array([0, 100, 65436, 9, 32767], "<u2"),
        np.concatenate(
            [
                np.array([150, -250], np.int64).view(np.uint64),  # half up: 1.5 and -2.5
                words,
                trailer.encode(trailer.Trailer(4, 3, 3, 100, 220, 1, 0, 1), 5),
            ]
        ),
    )
    new, _ = decode_update(one, given, total, 4)
    updates = [
        case(
            "update",
            name,
            {
                "quantiser": _quantiser(one),
                "given": arrays_json(given),
                "trained": arrays_json(trained),
                "examples": 120,
                "metrics": numbers(words),
                "reports": reports,
                "rounding": ROUNDING.hex(),
            },
            {"layout": layout_json(shape), **vector_json(addends[reports])},
        )
        for name, reports in (
            ("floats, integers, metrics and the trailer", True),
            ("the same, where the words of metrics are noise", False),
        )
    ]
    return [
        *updates,
        case(
            "failure",
            "a training that failed",
            {"layout": layout_json(shape), "cohort": 5},
            {"bytes": encode_failure(shape, 5).tobytes().hex()},
        ),
        case(
            "new_model",
            "from a sum of four; integers round half up",
            {
                "quantiser": _quantiser(one),
                "given": arrays_json(given),
                "layout": layout_json(shape),
                "total": total.tobytes().hex(),
                "survivors": 4,
            },
            {"arrays": arrays_json(new)},
        ),
    ]


def _bad_updates() -> list[Json]:
    given, quantiser_ = model(), Quantiser(16, 0.5, 100, 5)
    right = {
        "quantiser": _quantiser(quantiser_),
        "given": arrays_json(given),
        "trained": arrays_json(given),
        "examples": 10,
        "metrics": [],
        "reports": True,
        "rounding": ROUNDING.hex(),
    }
    reshaped = given | {"layer.bias": np.array([[0.125]], "<f8")}
    retyped = given | {"layer.bias": np.array([1], "<i8")}
    far = given | {"layer.steps": np.array([2**62, 0], "<i8")}
    cases: dict[str, Json] = {
        "another shape": {"trained": arrays_json(reshaped)},
        "integers for floats": {"trained": arrays_json(retyped)},
        "an array less": {"trained": arrays_json(given)[:-1]},
        "integers that change by too much": {"trained": arrays_json(far)},
        "no examples": {"examples": 0},
        "examples beyond a counter's bound": {"examples": number(2**63)},
    }
    return [refused("update", name, right | change, LOCAL) for name, change in cases.items()]


def trailer_() -> Json:
    names = list(trailer.Trailer.__dataclass_fields__)
    cases: dict[str, tuple[list[int], int, int]] = {
        "one peer": ([1, 1, 1, 40, 40, 0, 1, 0], 5, 1),
        "a sum": ([5, 4, 3, 300, 700, 2, 1, 4], 5, 5),
        "one that contributed": ([3, 1, 0, 1, 1, 0, 0, 0], 3, 3),
        "the largest counter": ([4, 4, 4, 4, (2**63 - 1) // 4, 0, 0, 0], 4, 4),
    }
    vectors = []
    for name, (values, cohort, survivors) in cases.items():
        raw = trailer.encode(trailer.Trailer(*values), cohort).tobytes()
        counters = dict(zip(names, numbers(values), strict=True))
        vectors.append(
            case(
                "trailer",
                name,
                {"counters": counters, "cohort": cohort, "survivors": survivors},
                {"bytes": raw.hex()},
            )
        )
    sound = dict(zip(names, [5, 4, 3, 300, 700, 2, 1, 4], strict=True))
    bad = [
        refused("trailer", name, {"counters": sound | change, "survivors": 5}, reason)
        for name, change, reason in (
            ("a peer too few", {"peers": 4}, "bad_trailer"),
            ("a peer too many", {"peers": 6}, "bad_trailer"),
            ("more contributors than peers", {"contributors": 6}, "bad_trailer"),
            ("negative contributors", {"contributors": -1}, "bad_trailer"),
            ("more reporters than contributors", {"reporters": 5}, "bad_trailer"),
            ("negative reporters", {"reporters": -1}, "bad_trailer"),
            ("more clipped than contributors", {"clipped": 5}, "bad_trailer"),
            ("negative roomy", {"roomy": -1}, "bad_trailer"),
            ("more capped than contributors", {"capped": 5}, "bad_trailer"),
            ("less weight than contributors", {"weight": 3}, "bad_trailer"),
            ("more weight than examples", {"weight": 701}, "bad_trailer"),
            (
                "nobody contributed",
                {name: 0 for name in names if name != "peers"},
                "too_few_contributors",
            ),
        )
    ]
    beyond = sound | {"examples": number((2**63 - 1) // 5 + 1)}
    bad.append(refused("counter", "beyond its bound", {"counters": beyond, "cohort": 5}, LOCAL))
    return topic("The counters that are summed beside the update.", "3", vectors, bad)


def release() -> Json:
    times = [(0, 0), (1, 0), (2000, 0), (2001, 0), (2828, 0), (2829, 0), (4000, 0), (4001, 0)]
    times += [(5657, 0), (60_000, 0), (90_510, 0), (90_511, 0), (5, 60_000), (9_000, 3_000)]
    vectors = [
        case(
            "release",
            f"{training} ms, earlier {earlier} ms",
            {"training_ms": training, "earlier_ms": earlier},
            {"release_ms": release_ms(training, earlier)},
        )
        for training, earlier in times
    ]
    return topic("When an upload leaves, in milliseconds after training began.", "8", vectors)


def guarantee() -> Json:
    vectors = []
    for n in (3, 4, 5, 7, 8, 11, 20, 100):
        threshold = default_threshold(n - 1)
        survivors = min(n, threshold + 1)
        cohort = tuple(f"peer-{place:03d}" for place in range(n))
        ticket = five(cohort=cohort, threshold=threshold, min_survivors=survivors).ticket
        vectors.append(
            case(
                "guarantee",
                f"{n} peers",
                {"peers": n},
                {
                    "threshold": threshold,
                    "min_survivors": survivors,
                    "colluders": withstands(ticket),
                },
            )
        )
    what = "Default threshold and smallest survivor set of a cohort, and how many colluders it withstands."
    return topic(what, "5 and 9", vectors)


TOPICS = {"quantiser": quantiser, "trailer": trailer_, "release": release, "guarantee": guarantee}
