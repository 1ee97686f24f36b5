"""Quantiser, trailer and tables of known answers, by the code and by the protocol's text once more."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from smpcfl.protocol import trailer
from smpcfl.protocol.guarantee import withstands
from smpcfl.protocol.keystream import Secret
from smpcfl.protocol.quantise import decode_update, encode_failure, encode_update, new_model
from smpcfl.protocol.release import release_ms
from smpcfl.protocol.ring import RingVector
from smpcfl.protocol.ticket import default_threshold
from vectors import reference
from vectors.files import Json, bad, good
from vectors.reading import (
    arrays,
    layout,
    quantiser,
    raw,
    real,
    refuses,
    ticket_fields,
    ticket_of,
    whole,
)

GOOD = ("given", "found")
BAD = ("given", "reason")


def numbers(given: Json) -> Json:
    return given | {"clip": real(given["clip"])}


def encode(given: Json) -> tuple[list[int], bool, bool]:
    one = quantiser(given["quantiser"])
    update = np.array([real(x) for x in given["update"]], given["dtype"])
    elements = np.zeros(len(update), f"<u{one.width // 8}")
    change, key = (np.zeros_like(update), update), Secret(raw(given["rounding"]))
    clipped, roomy = one.encode([change], given["examples"], key, elements)
    return elements.tolist(), clipped, roomy


@pytest.mark.parametrize(GOOD, good("quantiser", "encode"))
def test_updates_as_ring_elements(given: Json, found: Json) -> None:
    one = quantiser(given["quantiser"])
    expected = [whole(x) for x in found["elements"]]
    assert encode(given) == (expected, found["clipped"], found["roomy"])
    assert one.span == whole(found["span"]) == reference.span(one.width, one.cohort)
    plain_ = reference.quantised(
        numbers(given["quantiser"]),
        [real(x) for x in given["update"]],
        given["examples"],
        raw(given["rounding"]),
        # Of a scale beyond float32 the text says float64.
        given["dtype"] != "<f8" and one.width == 16 and one.clip > 2.0**-64,
    )
    assert plain_ == expected


@pytest.mark.parametrize(BAD, bad("quantiser", "encode"))
def test_updates_that_are_no_numbers(given: Json, reason: str) -> None:
    refuses(reason, lambda: encode(given))


@pytest.mark.parametrize(BAD, bad("quantiser", "quantiser"))
def test_quantisers_that_there_are_not(given: Json, reason: str) -> None:
    refuses(reason, lambda: quantiser(given["quantiser"]))


@pytest.mark.parametrize(GOOD, good("quantiser", "decode"))
def test_a_sum_as_a_mean(given: Json, found: Json) -> None:
    one, total = quantiser(given["quantiser"]), [whole(x) for x in given["total"]]
    mean = [real(x) for x in found["mean"]]
    vector = RingVector.of(np.array(total, f"<u{one.width // 8}"), np.zeros(0, "<u8"))
    model = new_model({"w": np.zeros(len(total))}, [(one, vector)], given["weight"])
    assert model["w"].tolist() == mean
    assert reference.dequantised(numbers(given["quantiser"]), total, given["weight"]) == mean


def encoded(given: Json) -> Any:
    return encode_update(
        quantiser(given["quantiser"]),
        arrays(given["given"]),
        arrays(given["trained"]),
        examples=whole(given["examples"]),
        metrics=np.array([whole(word) for word in given["metrics"]], "<u8"),
        reports=given["reports"],
        rounding=Secret(raw(given["rounding"])),
    )


@pytest.mark.parametrize(GOOD, good("quantiser", "update"))
def test_a_whole_update(given: Json, found: Json) -> None:
    ours = encoded(given)
    assert ours.tobytes().hex() == found["bytes"]
    assert ours.layout == layout(found["layout"])
    assert ours.body.tolist() == [whole(x) for x in found["body"]]
    before, after = arrays(given["given"]), arrays(given["trained"])
    weight = min(given["examples"], given["quantiser"]["weight_cap"])
    steps = (after["layer.steps"] - before["layer.steps"]) * weight
    update = [
        float(new) - float(old)
        for name in ("layer.weight", "layer.bias")
        for new, old in zip(after[name].flat, before[name].flat, strict=True)
    ]
    one = numbers(given["quantiser"])
    # One of the arrays is float64.
    body = reference.quantised(one, update, given["examples"], raw(given["rounding"]), False)
    largest = max(map(abs, update))
    counters = [1, 1, given["reports"], weight, given["examples"]]
    counters += [largest > one["clip"], largest < one["clip"] / 2, given["examples"] > weight]
    wide = [int(value) % 2**64 for value in [*steps, *given["metrics"], *counters]]
    assert [body, wide] == [[whole(x) for x in found[part]] for part in ("body", "wide")]


@pytest.mark.parametrize(BAD, bad("quantiser", "update"))
def test_updates_that_never_leave_a_peer(given: Json, reason: str) -> None:
    refuses(reason, lambda: encoded(given))


@pytest.mark.parametrize(GOOD, good("quantiser", "failure"))
def test_a_training_that_failed(given: Json, found: Json) -> None:
    shape = layout(given["layout"])
    assert encode_failure(shape, given["cohort"]).tobytes().hex() == found["bytes"]
    zero = [0] * shape.body, [0] * (shape.wide - 8) + [1] + [0] * 7
    assert reference.joined(zero, shape.width).hex() == found["bytes"]


@pytest.mark.parametrize(GOOD, good("quantiser", "new_model"))
def test_a_new_model(given: Json, found: Json) -> None:
    one, before, expected = (
        quantiser(given["quantiser"]),
        arrays(given["given"]),
        arrays(found["arrays"]),
    )
    total = raw(given["total"])
    vector = layout(given["layout"]).parse(total)
    ours, _ = decode_update(one, before, vector, given["survivors"])
    assert {name: (a.dtype, a.tolist()) for name, a in ours.items()} == {
        name: (a.dtype, a.tolist()) for name, a in expected.items()
    }
    body, wide = reference.elements(total, one.width, 5)
    weight = wide[-8 + 3]
    mean = reference.dequantised(numbers(given["quantiser"]), body, weight)
    new = [float(x) + m for x, m in zip([*before["layer.weight"].flat], mean[:4], strict=True)]
    assert np.array(new, "<f4").tolist() == expected["layer.weight"].ravel().tolist()
    steps = [
        int(old) + reference.half_up(reference.two_s_complement(x, 64), weight)
        for old, x in zip(before["layer.steps"], wide[:2], strict=True)
    ]
    assert steps == expected["layer.steps"].tolist()


@pytest.mark.parametrize(GOOD, good("trailer", "trailer"))
def test_counters_in_both_directions(given: Json, found: Json) -> None:
    counters = trailer.Trailer(**{name: whole(x) for name, x in given["counters"].items()})
    ours = trailer.encode(counters, given["cohort"])
    assert ours.tobytes().hex() == found["bytes"]
    parsed = np.frombuffer(raw(found["bytes"]), "<u8")
    assert trailer.decode(parsed, given["survivors"]) == counters
    values = [whole(given["counters"][name]) % 2**64 for name in reference.TRAILER.split()]
    assert reference.joined(([], values), 16).hex() == found["bytes"]


@pytest.mark.parametrize(BAD, bad("trailer", "trailer"))
def test_trailers_that_are_refused(given: Json, reason: str) -> None:
    values = [whole(x) % 2**64 for x in given["counters"].values()]
    refuses(reason, lambda: trailer.decode(np.array(values, "<u8"), given["survivors"]))


@pytest.mark.parametrize(BAD, bad("trailer", "counter"))
def test_counters_that_could_wrap_around(given: Json, reason: str) -> None:
    counters = trailer.Trailer(**{name: whole(x) for name, x in given["counters"].items()})
    refuses(reason, lambda: trailer.encode(counters, given["cohort"]))


@pytest.mark.parametrize(GOOD, good("release", "release"))
def test_when_an_upload_leaves(given: Json, found: Json) -> None:
    parts = given["training_ms"], given["earlier_ms"]
    assert release_ms(*parts) == reference.release_ms(*parts) == found["release_ms"]


@pytest.mark.parametrize(GOOD, good("guarantee", "guarantee"))
def test_how_many_colluders_a_cohort_withstands(given: Json, found: Json) -> None:
    n, threshold = given["peers"], found["threshold"]
    assert default_threshold(n - 1) == threshold
    cohort = [f"peer-{place:03d}" for place in range(n)]
    changes = {"cohort": cohort, "threshold": threshold, "min_survivors": found["min_survivors"]}
    one = ticket_of(ticket_fields("five peers") | changes).ticket
    assert withstands(one) == found["colluders"]
    c = found["colluders"]
    holds = [
        n >= 3 * c + 2 and c < 2 * threshold - (n - 1) and c <= found["min_survivors"] - 2
        for c in (c, c + 1)
    ]
    assert holds[1] is False
    assert holds[0] or c == 0
