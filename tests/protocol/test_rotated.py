"""The quantiser of 8 bits: the mean of many peers, without bias, and no harm where a sum wraps around."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from smpcfl.protocol import trailer
from smpcfl.protocol.errors import LocalError
from smpcfl.protocol.keystream import Secret
from smpcfl.protocol.quantise import ModelShape, decode_update, encode_failure, encode_update
from smpcfl.protocol.ring import RingVector, signed
from smpcfl.protocol.rotated import HALF, ROOM, RotatedQuantiser, first_clip
from smpcfl.protocol.rotation import padded

CAP, COUNT = 100, 5_000
SIGNS = Secret(bytes(32))
START = {"w": np.zeros((50, 60), np.float32), "steps": np.array([3]), "v": np.zeros(2_000)}
Arrays = dict[str, Any]


def updates(peers: int, seed: int, heavy: bool = False) -> list[Arrays]:
    """A direction that all share, and as much that they do not; `heavy`: a hundredth is 30 times as large."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=COUNT)
    large = np.where(rng.random(COUNT) < 0.01, 30.0, 1.0) if heavy else 1.0
    found = []
    for _ in range(peers):
        step = 0.01 * large * (common + rng.normal(size=COUNT))
        found.append(
            {
                "w": step[:3_000].reshape(50, 60).astype(np.float32),
                "steps": np.array([5]),
                "v": step[3_000:],
            }
        )
    return found


def quantiser(peers: int, clip: float) -> RotatedQuantiser:
    return RotatedQuantiser(8, clip, CAP, peers, signs=SIGNS)


def flat(arrays: Arrays) -> np.ndarray:
    return np.concatenate([arrays["w"].ravel(), arrays["v"].ravel()]).astype(np.float64)


def summed(one: RotatedQuantiser, trained: list[Arrays], seed: int, n_i: Any = 100) -> RingVector:
    total: RingVector | None = None
    for place, arrays in enumerate(trained):
        key = Secret(bytes([seed, place]) * 16)
        examples = n_i if isinstance(n_i, int) else n_i[place]
        addend = encode_update(one, START, arrays, examples=examples, rounding=key)
        total = addend if total is None else total + addend
    assert total is not None
    return total


def fitting(trained: list[Arrays], n_i: Any = 100) -> float:
    """The clip after a first sum that had room enough."""
    one = quantiser(len(trained), 1.0)
    total = summed(one, trained, 0, n_i)
    return one.fitting_clip(total.body, COUNT, len(trained))


def error(found: Arrays, mean: np.ndarray) -> float:
    return float(np.linalg.norm(flat(found) - mean) / np.linalg.norm(mean))


@pytest.mark.parametrize("heavy", [False, True])
@pytest.mark.parametrize(("peers", "most"), [(3, 0.15), (8, 0.2), (32, 0.35)])
def test_the_decoded_sum_is_the_weighted_mean(peers: int, most: float, heavy: bool) -> None:
    trained = updates(peers, 1, heavy)
    examples = [50 + 10 * place % 70 for place in range(peers)]
    one = quantiser(peers, fitting(trained, examples))
    model, counted = decode_update(one, START, summed(one, trained, 1, examples), peers)
    mean = np.average(
        [flat(arrays) for arrays in trained], axis=0, weights=np.minimum(examples, CAP)
    )
    assert error(model, mean) < most
    assert model["steps"].tolist() == [5]
    assert model["w"].dtype == np.float32
    assert (counted.clipped, counted.roomy) == (0, 0)


def test_it_is_unbiased() -> None:
    trained = updates(4, 2)
    one = quantiser(4, fitting(trained))
    mean = np.mean([flat(arrays) for arrays in trained], axis=0)
    found = [
        flat(decode_update(one, START, summed(one, trained, seed), 4)[0]) for seed in range(1, 101)
    ]
    single = np.linalg.norm(found[0] - mean)
    # Of a hundred independent errors the mean is a tenth of one; a bias would stay.
    assert np.linalg.norm(np.mean(found, axis=0) - mean) < 1.3 * single / 10


def test_the_clip_follows_the_sum_from_far_off() -> None:
    trained = updates(8, 3)
    mean = np.mean([flat(arrays) for arrays in trained], axis=0)
    for clip in (30 * fitting(trained), fitting(trained) / 30):
        for _ in range(5):
            one = quantiser(8, clip)
            total = summed(one, trained, 1)
            clip = one.fitting_clip(total.body, COUNT, 8)
        model, _ = decode_update(one, START, total, 8)
        assert error(model, mean) < 0.2


def test_a_sum_that_wraps_around_is_no_larger_than_what_fits() -> None:
    trained = updates(8, 4)
    one = quantiser(8, fitting(trained) / 30)
    model, counted = decode_update(one, START, summed(one, trained, 1), 8)
    # Uniform words have a deviation of 74: a mean of nine times what the clip was for.
    assert np.sqrt(np.mean(flat(model) ** 2)) < 1.1 * one.clip * 74 / HALF
    assert counted.clipped == 8


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_beyond_the_clip_all_addends_have_one_norm_whatever_their_examples(scale: float) -> None:
    """Else a tiny clip would weigh the directions by n_i, and one sum would give them all."""
    small, large = updates(2, 5)
    large = {name: array * scale if name != "steps" else array for name, array in large.items()}
    one = quantiser(2, 1e-7)
    norms = []
    for arrays, examples in ((small, 7), (large, 93)):
        addend = encode_update(one, START, arrays, examples=examples, rounding=SIGNS)
        norms.append(math.sqrt(np.mean(signed(addend.body).astype(float) ** 2)))
    assert norms[0] == pytest.approx(norms[1], rel=0.02)
    assert norms[0] == pytest.approx(HALF / ROOM * math.sqrt(COUNT / padded(COUNT)), rel=0.02)


def test_the_body_is_padded_and_a_failure_is_zero() -> None:
    layout = ModelShape.of(START).layout(8)
    assert (layout.body, layout.wide) == (padded(COUNT), 1 + trailer.LENGTH)
    assert layout.nbytes < 0.26 * 4 * COUNT
    assert not encode_failure(layout, 5).body.any()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_diverged_update_is_named(bad: float) -> None:
    trained = updates(1, 6)[0]
    trained["v"][7] = bad
    with pytest.raises(LocalError, match=rf"{bad} at entry 3007 \(1 such"):
        encode_update(quantiser(5, 1.0), START, trained, examples=1, rounding=SIGNS)


def test_an_update_beyond_float32_is_named() -> None:
    trained = updates(1, 6)[0]
    trained["v"][7] = 1e39
    with pytest.raises(LocalError, match="norm is 1e\\+39: with width=8"):
        encode_update(quantiser(5, 1.0), START, trained, examples=1, rounding=SIGNS)


@pytest.mark.parametrize("clip", [0.0, -1.0, 1e-31, 1e31, math.nan, math.inf])
def test_a_clip_out_of_range_is_refused(clip: float) -> None:
    with pytest.raises(LocalError, match="clip"):
        quantiser(5, clip)


def test_nothing_changes_where_nothing_was_learnt_and_nothing_where_there_is_nothing() -> None:
    one = quantiser(3, 1.0)
    total = summed(one, [START] * 3, 1)
    model, _ = decode_update(one, START, total, 3)
    assert all(np.array_equal(model[name], START[name]) for name in START)
    assert one.fitting_clip(total.body, COUNT, 3) == 0.0
    empty = encode_update(one, {}, {}, examples=1, rounding=SIGNS)
    assert empty.layout.nbytes == 8 * trailer.LENGTH
    assert decode_update(one, {}, empty, 1)[0] == {}


def test_the_first_clip_is_the_models_size() -> None:
    assert first_clip({"w": np.full(10, -0.45, np.float32), "n": np.array([9])}) == 2.0
    assert first_clip({"w": np.full(10, 1.6)}) == 8.0
    assert first_clip({"w": np.zeros(3)}) == first_clip({}) == 0.25
