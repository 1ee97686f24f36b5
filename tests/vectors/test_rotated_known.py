"""The quantiser of eight bits, by the code and by the protocol's text once more."""

from __future__ import annotations

import numpy as np
import pytest

from smpcfl.protocol.keystream import Secret
from smpcfl.protocol.quantise import new_model
from smpcfl.protocol.ring import RingVector
from smpcfl.protocol.rotated import RotatedQuantiser
from smpcfl.protocol.rotation import padded
from vectors import reference
from vectors.files import Json, bad, good
from vectors.reading import raw, real, refuses, whole

GOOD, BAD = ("given", "found"), ("given", "reason")


def quantiser(given: Json) -> RotatedQuantiser:
    numbers = real(given["clip"]), whole(given["weight_cap"]), whole(given["cohort"])
    return RotatedQuantiser(8, *numbers, signs=Secret(raw(given["signs"])))


def encode(given: Json) -> tuple[list[int], bool]:
    update = np.array([real(x) for x in given["update"]], "<f4")
    elements, key = np.zeros(padded(len(update)), "<u1"), Secret(raw(given["rounding"]))
    change = (np.zeros_like(update), update)
    clipped, _ = quantiser(given).encode([change], given["examples"], key, elements)
    return elements.tolist(), clipped


@pytest.mark.parametrize(GOOD, good("rotated", "encode"))
def test_an_update(given: Json, found: Json) -> None:
    assert encode(given) == (found["elements"], found["clipped"])
    update = [real(x) for x in given["update"]]
    assert reference.block(len(update)) == found["block"]
    assert reference.rotated(given, update, real(given["clip"])) == found["elements"]


@pytest.mark.parametrize(GOOD, good("rotated", "decode"))
def test_a_sum(given: Json, found: Json) -> None:
    one, count, weight = quantiser(given), given["count"], given["weight"]
    vector = RingVector.of(np.array(given["total"], "<u1"), np.zeros(0, "<u8"))
    mean = [real(x) for x in found["mean"]]
    assert new_model({"w": np.zeros(count)}, [(one, vector)], weight)["w"].tolist() == mean
    assert one.fitting_clip(vector.body, count, 3) == real(found["fitting"])
    plain, fitting = reference.unrotated(given, given["total"], count, weight, real(given["clip"]))
    assert plain == mean
    assert fitting == pytest.approx(real(found["fitting"]), rel=1e-12)


@pytest.mark.parametrize(BAD, bad("rotated", "encode"))
def test_what_never_leaves_a_peer(given: Json, reason: str) -> None:
    refuses(reason, lambda: encode(given))
