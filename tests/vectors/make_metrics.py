"""Known answers of what an app reports: words that are summed, and what is read out of a sum."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

from smpcfl.protocol.summed_metrics import MetricNames, Values
from vectors.files import LOCAL, Json, case, refused, topic
from vectors.given import Tape, metrics_json, some, values_json

OPEN = MetricNames(open=True)
LOSS = MetricNames((("loss", 0),))
LISTS = MetricNames((("f1", 3), ("loss", 0), ("one", 1)))
LARGEST = (2.0**53 - 2) * 2.0**8  # of 1024 peers, over one example


def metrics() -> Json:
    vectors = [
        _encoded(name, *given)
        for name, given in {
            "zero": (LOSS, {"loss": 0.0}, 1, 3),
            "one, over one example": (LOSS, {"loss": 1.0}, 1, 3),
            "one unit": (LOSS, {"loss": 2.0**-40}, 1, 5),
            "half a unit is rounded up": (LOSS, {"loss": 2.0**-41}, 1, 5),
            "minus half a unit, to zero": (LOSS, {"loss": -(2.0**-41)}, 1, 5),
            "minus one unit": (LOSS, {"loss": -(2.0**-40)}, 1, 5),
            "below half a unit": (LOSS, {"loss": 2.0**-1074}, 1, 5),
            "rounded after it was multiplied": (LOSS, {"loss": 0.1}, 7919, 5),
            "2^48 units": (LOSS, {"loss": 2.0**8}, 1, 5),
            "the largest for 1024 peers": (LOSS, {"loss": LARGEST}, 1, 1024),
            "the least for 1024 peers": (LOSS, {"loss": -LARGEST}, 1, 1024),
            "an accuracy and a loss": (
                MetricNames((("accuracy", 0), ("loss", 0))),
                {"loss": 0.3125, "accuracy": 0.7},
                120,
                5,
            ),
            "lists": (
                LISTS,
                {"one": [2.0], "f1": [0.5, -0.25, 1.0], "loss": 3.5},
                40,
                5,
            ),
            "one that was not asked for is left out": (
                LOSS,
                {"loss": 0.5, "another": 7.0},
                10,
                5,
            ),
            "none": (MetricNames(), {"loss": 0.5}, 10, 5),
            "not known yet": (OPEN, {"loss": 0.5, "accuracy": 0.75}, 30, 5),
            "not known yet, a list": (OPEN, {"recall": [0.5, 0.25], "z": 1.0}, 3, 5),
            "not known yet, and there are none": (OPEN, {}, 30, 5),
            "not known yet, names that JSON escapes": (
                OPEN,
                {'"\\/': 1.0, "\n\t\x1f\x7f": 2.0, "é": 3.0, "東京": 4.0, "😀": 5.0},
                1,
                3,
            ),
        }.items()
    ]
    for name, one in (("a name", LOSS), ("lists", LISTS), ("none", MetricNames())):
        raw = some(f"noise {name}", 8 * one.words)
        tape = Tape(raw)
        words = one.noise(tape)
        assert not tape.left
        given = {"metrics": metrics_json(one), "entropy": raw.hex()}
        vectors.append(case("noise", name, given, {"bytes": words.tobytes().hex()}))
    peers: list[tuple[int, Values]] = [
        (120, {"loss": 0.3, "recall": [0.9, 0.1]}),
        (7, {"loss": -1.7, "recall": [0.2, 0.3]}),
        (4001, {"loss": 2.5, "recall": [1 / 3, 0.0]}),
    ]
    vectors += [
        _means("three peers", MetricNames((("loss", 0), ("recall", 2))), peers),
        _means("three peers, names not known yet", OPEN, peers),
        _means("no metrics", MetricNames(), peers),
    ]
    largest: Values = {"loss": -LARGEST}
    vectors.append(_means("the least number for 1024 peers", LOSS, [(1, largest)] * 3))
    what = "What an app reports, in words; the means in a sum. `noise`: entropy is read as words."
    return topic(what, "4", vectors, [*_bad_values(), *_bad_sums()])


def _encoded(name: str, one: MetricNames, values: Values, examples: int, cohort: int) -> Json:
    words = one.encode(values, examples, cohort)
    given = _given(one, values, examples, cohort)
    return case("encode", name, given, {"bytes": words.tobytes().hex()})


def _given(one: MetricNames, values: Values, examples: int = 10, cohort: int = 5) -> Json:
    return {
        "metrics": metrics_json(one),
        "values": values_json(values),
        "examples": examples,
        "cohort": cohort,
    }


def _sum(one: MetricNames, peers: Iterable[tuple[int, Values]]) -> tuple[np.ndarray, int]:
    items = list(peers)
    total = np.zeros(one.words, np.uint64)
    for examples, values in items:
        total += one.encode(values, examples, len(items))
    return total, sum(examples for examples, _ in items)


def _means(name: str, one: MetricNames, peers: list[tuple[int, Values]]) -> Json:
    total, examples = _sum(one, peers)
    given = {
        "metrics": metrics_json(one),
        "total": total.tobytes().hex(),
        "peers": len(peers),
        "examples": examples,
    }
    means = one.decode(total, len(peers), examples)
    return case("means", name, given, {"means": values_json(means)})


def _bad_values() -> list[Json]:
    too_large = float((2**63 - 1) // 5 + 2**12) * 2.0**8
    two = MetricNames((("f1", 2), ("loss", 0)))
    cases: dict[str, tuple[MetricNames, Values]] = {
        "NaN": (LOSS, {"loss": float("nan")}),
        "infinity": (LOSS, {"loss": float("inf")}),
        "minus infinity in a list": (two, {"f1": [0.5, float("-inf")], "loss": 0.0}),
        "NaN, names not known yet": (OPEN, {"loss": float("nan")}),
        "too large": (LOSS, {"loss": too_large}),
        "too small": (LOSS, {"loss": -too_large}),
        "missing": (LOSS, {"accuracy": 0.5}),
        "a list that is too long": (two, {"f1": [0.5] * 3, "loss": 0.0}),
        "a number and no list": (two, {"f1": 0.5, "loss": 0.0}),
        "a list of one and no number": (LOSS, {"loss": [0.5]}),
        "an empty list": (OPEN, {"loss": []}),
        "65 numbers": (OPEN, {"loss": [0.0] * 64, "accuracy": 0.5}),
        "a name of 65 characters": (OPEN, {"m" * 65: 0.0}),
        "no name": (OPEN, {"": 0.0}),
        "names of more than 1020 bytes": (OPEN, {f"{i:02}{'n' * 60}": 0.0 for i in range(16)}),
    }
    return [
        refused("encode", name, _given(one, values, 1), LOCAL)
        for name, (one, values) in cases.items()
    ]


def _bad_sums() -> list[Json]:
    """Sums out of which no names are read: of peers whose names differ, or of what no peer writes."""
    right: Values = {"loss": 0.5}
    names = {"other": {"lost": 0.5}, "longer": {"loss": [0.5]}, "more": {"loss": 0.5, "m": 0.0}}
    found = []
    for name, other in names.items():
        values: list[tuple[int, Values]] = [(1, right), (1, other), (1, right)]
        found.append(refused("means", f"one of three: {name}", _total(values), LOCAL))
    noise = np.frombuffer(some("one peer's noise", 8 * OPEN.words), "<u8")
    total, _ = _sum(OPEN, [(1, right)] * 2)
    found.append(
        refused("means", "one of three: noise", _total([], (total + noise).tobytes()), LOCAL)
    )
    for text in ('[["a", 0]]', '[["b",0],["a",0]]', '[["a",65]]', '[["\\ud800",0]]', '["a0"]', ""):
        padded = text.encode().ljust(1020)
        pieces = [hashlib.sha256(padded).digest()[:6]]
        pieces += [padded[at : at + 6] for at in range(0, 1020, 6)]
        words = np.zeros(OPEN.words, np.uint64)
        words[-len(pieces) :] = [3 * int.from_bytes(piece, "little") for piece in pieces]
        found.append(refused("means", f"the text {text!r}", _total([], words.tobytes()), LOCAL))
    return found


def _total(values: list[tuple[int, Values]], raw: bytes = b"") -> Json:
    raw = raw or _sum(OPEN, values)[0].tobytes()
    return {"metrics": metrics_json(OPEN), "total": raw.hex(), "peers": 3, "examples": 3}


TOPICS = {"metrics": metrics}
