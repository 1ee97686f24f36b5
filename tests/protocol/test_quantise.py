"""The quantiser: no overflow at the bound, no bias, and errors that say what is wrong."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smpcfl.protocol import quantise, trailer
from smpcfl.protocol.errors import LocalError, Reason, RemoteError
from smpcfl.protocol.keystream import Secret
from smpcfl.protocol.quantise import (
    EXACT,
    ModelShape,
    Quantiser,
    decode_update,
    encode_failure,
    encode_update,
    model_digest,
    new_model,
)
from smpcfl.protocol.ring import Elements, RingVector, signed

CAP = 100
Arrays = dict[str, npt.NDArray[Any]]


KEY = Secret(bytes(range(32)))


@dataclass
class Constant:
    """A keystream of one byte again and again: chance that is the least there is, or the largest."""

    byte: bytes

    def update_into(self, data: memoryview, buffer: bytearray) -> int:
        buffer[: len(data)] = self.byte * len(data)
        return len(data)


DOWN, UP = Constant(b"\x00"), Constant(b"\xff")


def elements_of(
    quantiser: Quantiser, update: npt.NDArray[Any], examples: int, chance: Constant | None = None
) -> Elements:
    found = np.zeros(len(update), f"<u{quantiser.width // 8}")
    with rounded(chance):
        quantiser.encode([(np.zeros_like(update), update)], examples, KEY, found)
    return found


def rounded(chance: Constant | None) -> Any:
    return (
        nullcontext() if chance is None else patch.object(quantise, "keystream", lambda key: chance)
    )


def encode(
    quantiser: Quantiser,
    given_: Arrays,
    trained: Arrays,
    *,
    examples: int = 10,
    chance: Constant | None = None,
    key: Secret = KEY,
) -> RingVector:
    with rounded(chance):
        return encode_update(quantiser, given_, trained, examples=examples, rounding=key)


def total_of(vectors: list[RingVector]) -> RingVector:
    total = vectors[0].layout.zeros()
    for vector in vectors:
        total += vector
    return total


# -- no overflow ------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(EXACT),
    st.integers(3, 1000),
    st.floats(1e-100, 1e100),
    st.integers(1, 2**32 - 1),
    st.sampled_from([1.0, -1.0, 1e9, -1e9]),
    st.sampled_from([DOWN, UP]),
)
def test_a_whole_cohort_at_the_clip_does_not_wrap(
    width: int, n: int, clip: float, cap: int, factor: float, chance: Any
) -> None:
    quantiser = Quantiser(width, clip, cap, n)
    element = elements_of(quantiser, np.array([math.copysign(clip, factor)]), cap + 5, chance)
    exact = n * int(signed(element)[0])
    assert -(2 ** (width - 1)) <= exact < 2 ** (width - 1)
    assert abs(exact) <= quantiser.span + n
    wrapped = (element.astype(np.uint64) * np.uint64(n)).astype(element.dtype)
    assert int(signed(wrapped)[0]) == exact


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(EXACT),
    st.lists(st.integers(1, 300), min_size=3, max_size=60),
    st.sampled_from([DOWN, UP]),
    st.data(),
)
def test_any_mixture_of_weights_and_signs_does_not_wrap(
    width: int, examples: list[int], chance: Any, data: st.DataObject
) -> None:
    quantiser = Quantiser(width, 2.0, CAP, len(examples))
    total, exact = np.zeros(1, np.dtype(f"<u{width // 8}")), 0
    for count in examples:
        value = data.draw(st.sampled_from([2.0, -2.0, 0.3, -1.999]))
        element = elements_of(quantiser, np.array([value]), count, chance)
        total = total + element
        exact += int(signed(element)[0])
    assert int(signed(total)[0]) == exact


@pytest.mark.parametrize("width", EXACT)
def test_the_bound_is_the_one_of_the_design(width: int) -> None:
    quantiser = Quantiser(width, 1.0, CAP, 50)
    assert quantiser.span + 50 <= 2 ** (width - 1) - 1
    assert quantiser.span <= 2**52


@pytest.mark.parametrize("peers", [2**15 - 1, 2**15, 10**6])
def test_a_ring_too_narrow_for_the_cohort_is_refused(peers: int) -> None:
    with pytest.raises(LocalError, match="16 bits"):
        Quantiser(16, 1.0, CAP, peers)


@pytest.mark.parametrize("clip", [0.0, -1.0, 1e-101, 1e101, math.nan, math.inf])
def test_a_clip_that_is_no_positive_number_is_refused(clip: float) -> None:
    with pytest.raises(LocalError, match="clip"):
        Quantiser(16, clip, CAP, 3)


def test_a_weight_cap_below_one_is_refused() -> None:
    with pytest.raises(LocalError, match="weight cap"):
        Quantiser(16, 1.0, 0, 3)


# -- no bias ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("width", [16, 32])
@pytest.mark.parametrize("value", [0.1, -0.1, 1e-5, -1e-5, 0.77777, 1.0, -1.0])
def test_rounding_is_unbiased(width: int, value: float, dtype: str) -> None:
    draws = 200_000
    quantiser, update = Quantiser(width, 1.0, CAP, 7), np.full(draws, value, dtype)
    elements = elements_of(quantiser, update, 33)
    exact = float(update[0]) * quantiser.span * 33 / (7 * CAP)
    # A rounding's deviation is at most 1/2, so five deviations of the mean are 2.5 / sqrt(draws).
    assert abs(signed(elements).mean() - exact) < 2.5 / math.sqrt(draws)
    assert set(np.unique(signed(elements))) <= {math.floor(exact), math.floor(exact) + 1}


@pytest.mark.parametrize("chance", [DOWN, UP])
@pytest.mark.parametrize("width", EXACT)
def test_zero_stays_zero(width: int, chance: Any) -> None:
    assert not elements_of(Quantiser(width, 1.0, CAP, 5), np.zeros(9), 10, chance).any()


# -- sums -------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(EXACT),
    st.lists(st.integers(1, 300), min_size=3, max_size=20),
    st.integers(0, 2**32),
)
def test_the_decoded_sum_is_the_weighted_mean_within_n_units(
    width: int, examples: list[int], seed: int
) -> None:
    n, rng = len(examples), np.random.default_rng(seed)
    quantiser = Quantiser(width, 0.5, CAP, n)
    updates = rng.uniform(-0.7, 0.7, (n, 8))
    start = {"w": np.zeros(8)}
    vectors = [
        encode(quantiser, start, {"w": update}, examples=count, key=Secret(rng.bytes(32)))
        for update, count in zip(updates, examples, strict=True)
    ]
    model, counters = decode_update(quantiser, start, total_of(vectors), n)
    weights = np.minimum(examples, CAP)
    largest = np.abs(updates).max(axis=1, keepdims=True)
    shrunk = updates * np.minimum(1.0, 0.5 / largest)  # as a whole, by its largest entry
    mean = weights @ shrunk / weights.sum()
    unit = 0.5 / quantiser.span * n * CAP / weights.sum()
    assert np.abs(model["w"] - mean).max() <= n * unit + 1e-12
    assert counters.weight == weights.sum()
    assert counters.examples == sum(examples)
    assert counters.capped == sum(count > CAP for count in examples)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_of_any_size_come_back_in_kind(dtype: type[np.floating[Any]]) -> None:
    quantiser = Quantiser(32, 1.0, CAP, 3)
    start = {"a": np.ones((2, 3), dtype), "b": np.full((), 2, dtype)}
    trained = {"a": start["a"] + dtype(0.25), "b": start["b"] - dtype(0.5)}
    model, _ = decode_update(quantiser, start, total_of([encode(quantiser, start, trained)] * 3), 3)
    for name, array in trained.items():
        assert model[name].dtype == dtype
        assert model[name].shape == array.shape
        assert np.allclose(model[name], array, atol=1e-3)


INTEGERS = {
    "int64": [-(2**40), 2**40],
    "int32": [-(2**31), 2**31 - 1],
    "uint8": [0, 255],
    "uint32": [0, 2**32 - 1],
    "bool": [0, 1],
}


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(INTEGERS)), st.data())
def test_integer_buffers_become_the_exact_weighted_mean(dtype: str, data: st.DataObject) -> None:
    low, high = INTEGERS[dtype]
    values = st.integers(low, high)
    old = data.draw(values)
    new = data.draw(st.lists(st.tuples(values, st.integers(1, 150)), min_size=3, max_size=9))
    quantiser = Quantiser(16, 1.0, CAP, len(new))
    start = {"count": np.array([old]).astype(dtype)}
    vectors = [
        encode(quantiser, start, {"count": np.array([v]).astype(dtype)}, examples=n) for v, n in new
    ]
    model, _ = decode_update(quantiser, start, total_of(vectors), len(new))
    weight = sum(min(n, CAP) for _, n in new)
    change = sum((v - old) * min(n, CAP) for v, n in new)
    assert int(model["count"][0]) == old + (change + weight // 2) // weight
    assert model["count"].dtype == np.dtype(dtype)


def test_an_unchanged_model_stays_as_it_was() -> None:
    quantiser = Quantiser(16, 1.0, CAP, 4)
    start: Arrays = {
        "f": np.linspace(-1, 1, 5, dtype=np.float32).reshape(5, 1),
        "empty": np.zeros((0, 3), np.float64),
        "scalar": np.array(7, np.int64),
        "mask": np.array([True, False]),
    }
    model, _ = decode_update(quantiser, start, total_of([encode(quantiser, start, start)] * 4), 4)
    for name, array in start.items():
        assert model[name].dtype == array.dtype
        assert np.array_equal(model[name], array)
        assert model[name].shape == array.shape


@pytest.mark.parametrize("width", EXACT)
def test_an_empty_model_is_a_trailer(width: int) -> None:
    quantiser = Quantiser(width, 1.0, CAP, 3)
    vector = encode(quantiser, {}, {})
    assert vector.layout == ModelShape.of({}).layout(width)
    assert vector.layout.nbytes == 8 * trailer.LENGTH
    model, counters = decode_update(quantiser, {}, total_of([vector] * 3), 3)
    assert (model, counters.peers) == ({}, 3)


def test_layout_counts_floats_in_the_body_and_integers_in_the_wide_part() -> None:
    arrays = {"f": np.zeros((2, 3)), "i": np.zeros(4, np.int32), "s": np.zeros((), np.float16)}
    layout = ModelShape.of(arrays).layout(16)
    assert (layout.body, layout.wide) == (7, 4 + trailer.LENGTH)
    assert encode(Quantiser(16, 1.0, CAP, 3), arrays, arrays).layout == layout


def test_a_sum_of_other_peers_than_the_survivors_is_refused() -> None:
    quantiser, start = Quantiser(16, 1.0, CAP, 3), {"w": np.zeros(2)}
    total = total_of([encode(quantiser, start, start)] * 2)
    with pytest.raises(RemoteError) as error:
        decode_update(quantiser, start, total, 3)
    assert error.value.reason is Reason.BAD_TRAILER


# -- flags ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("largest", "clipped", "roomy"),
    [(0.0, 0, 1), (0.49, 0, 1), (0.5, 0, 0), (1.0, 0, 0), (1.01, 1, 0), (-1.01, 1, 0)],
)
def test_clipped_and_roomy(largest: float, clipped: int, roomy: int) -> None:
    quantiser, start = Quantiser(16, 1.0, CAP, 3), {"w": np.zeros(3)}
    vector = encode(quantiser, start, {"w": np.array([0.0, largest, 0.1])})
    counters = trailer.decode(vector.wide, 1)
    assert (counters.clipped, counters.roomy) == (clipped, roomy)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=9).filter(lambda u: max(map(abs, u)) > 1),
    st.floats(2.0**-10, 1.0),
)
def test_an_update_beyond_the_clip_keeps_its_direction(update: list[float], clip: float) -> None:
    """Cut entry by entry it would be, for a small clip, little but its signs."""
    quantiser, start, trained = Quantiser(64, clip, CAP, 3), np.zeros(len(update)), np.array(update)
    total = total_of([encode(quantiser, {"w": start}, {"w": trained}, chance=DOWN)] * 3)
    model, counters = decode_update(quantiser, {"w": start}, total, 3)
    largest = np.abs(trained).max()
    assert np.abs(model["w"]).max() == pytest.approx(clip, rel=1e-9)
    assert np.allclose(model["w"] / clip, trained / largest, rtol=0, atol=1e-9)
    assert counters.clipped == 3


@pytest.mark.parametrize("width", EXACT)
def test_a_failure_is_a_zero_that_counts_as_a_peer_alone(width: int) -> None:
    quantiser = Quantiser(width, 1.0, CAP, 4)
    start: Arrays = {"w": np.zeros(3), "n": np.array([5])}
    trained: Arrays = {"w": np.array([0.5, -0.25, 0.0]), "n": np.array([9])}
    zero = encode_failure(ModelShape.of(start).layout(width), 4)
    assert zero.layout == ModelShape.of(start).layout(width)
    assert not zero.body.any()
    good = encode(quantiser, start, trained, chance=DOWN)
    # Of the body three contribute: the mean is theirs, whatever the number of those that failed.
    model, counters = decode_update(quantiser, start, total_of([good] * 3 + [zero]), 4)
    alone, _ = decode_update(quantiser, start, total_of([good] * 3), 3)
    assert all(np.array_equal(model[name], alone[name]) for name in start)
    assert (counters.peers, counters.contributors) == (4, 3)
    with pytest.raises(RemoteError) as error:
        decode_update(quantiser, start, total_of([zero] * 4), 4)
    assert error.value.reason is Reason.TOO_FEW_CONTRIBUTORS


@pytest.mark.parametrize(("examples", "capped"), [(99, 0), (100, 0), (101, 1)])
def test_capped(examples: int, capped: int) -> None:
    vector = encode(Quantiser(16, 1.0, CAP, 3), {}, {}, examples=examples)
    counters = trailer.decode(vector.wide, 1)
    assert (counters.capped, counters.weight) == (capped, min(examples, CAP))


# -- errors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_diverged_update_names_its_entry(bad: float) -> None:
    start = {"w": np.zeros(3), "v": np.zeros(2)}
    trained = {"w": np.array([0.0, bad, bad]), "v": np.zeros(2)}
    with pytest.raises(LocalError, match=rf"{bad} at entry 1 \(2 such entries\)"):
        encode(Quantiser(16, 1.0, CAP, 3), start, trained)


def test_a_difference_beyond_float64_is_an_error() -> None:
    with np.errstate(over="ignore"), pytest.raises(LocalError, match="inf at entry 0"):
        encode(Quantiser(16, 1.0, CAP, 3), {"w": np.array([-1.7e308])}, {"w": np.array([1.7e308])})


@pytest.mark.parametrize(
    ("trained", "named"),
    [
        ({"w": np.zeros((3, 2)), "n": np.zeros(1, np.int64)}, r"'w' has shape \(3, 2\)"),
        ({"w": np.zeros((2, 3), np.int32), "n": np.zeros(1, np.int64)}, "'w'.*<i4.*<f8"),
        ({"w": np.zeros((2, 3)), "n": np.zeros(1)}, "'n'.*<f8.*<i8"),
        ({"w": np.zeros((2, 3)), "m": np.zeros(1, np.int64)}, r"lacks .*\['n'\].* has \['m'\]"),
        ({"w": np.zeros((2, 3))}, r"lacks .*\['n'\].* has \[\]"),
        ({}, r"lacks .*\['n', 'w'\].* has \[\]"),
    ],
)
def test_arrays_that_do_not_match_are_named(trained: Arrays, named: str) -> None:
    start: Arrays = {"w": np.zeros((2, 3)), "n": np.zeros(1, np.int64)}
    with pytest.raises(LocalError, match=named):
        encode(Quantiser(16, 1.0, CAP, 3), start, trained)


def test_the_order_of_a_replys_arrays_does_not_matter() -> None:
    start: Arrays = {"w": np.zeros(2), "v": np.zeros(2)}
    trained: Arrays = {"w": np.array([0.5, 0.25]), "v": np.array([-0.5, 0.125])}
    quantiser = Quantiser(16, 1.0, CAP, 3)
    other = dict(reversed(trained.items()))
    assert encode(quantiser, start, other) == encode(quantiser, start, trained)


@pytest.mark.parametrize("made", [np.float16, np.float64, np.longdouble])
def test_floats_of_another_size_are_the_same_update(made: Any) -> None:
    """NumPy makes float64 of float32 as soon as a number of that size comes in."""
    start: Arrays = {"w": np.array([0.5, -1.0], np.float32), "n": np.zeros(1, np.int64)}
    trained: Arrays = {"w": np.array([0.75, -1.5], np.float32), "n": np.ones(1, np.int64)}
    other = {"w": trained["w"].astype(made), "n": trained["n"].astype(np.int16)}
    quantiser = Quantiser(16, 1.0, CAP, 3)
    assert encode(quantiser, start, other) == encode(quantiser, start, trained)


@pytest.mark.parametrize("dtype", [np.complex128, "U3", "O", "M8[s]"])
def test_other_dtypes_are_named(dtype: Any) -> None:
    with pytest.raises(LocalError, match="'odd' has dtype"):
        ModelShape.of({"odd": np.zeros(2, dtype)})


@pytest.mark.parametrize("examples", [0, -1, 2**62])
def test_counters_out_of_range_are_errors(examples: int) -> None:
    with pytest.raises(LocalError):
        encode(Quantiser(16, 1.0, CAP, 3), {}, {}, examples=examples)


@pytest.mark.parametrize(("old", "new"), [(-(2**62), 2**62), (0, 2**57), (2**63 - 1, -(2**63))])
def test_an_integer_change_too_large_to_sum_is_named(old: int, new: int) -> None:
    with pytest.raises(LocalError, match="'steps'"):
        encode(
            Quantiser(16, 1.0, CAP, 3),
            {"steps": np.array([old])},
            {"steps": np.array([new])},
            examples=CAP,
        )


def test_an_integer_change_whose_sum_would_be_the_first_to_wrap_is_named() -> None:
    quantiser, start = Quantiser(16, 1.0, CAP, 4), {"steps": np.array([0])}
    encode(quantiser, start, {"steps": np.array([2**61 - 1])}, examples=1)
    with pytest.raises(LocalError, match="'steps'"):
        encode(quantiser, start, {"steps": np.array([2**61])}, examples=1)


def test_integer_changes_at_the_bound_do_not_wrap() -> None:
    quantiser, n = Quantiser(16, 1.0, CAP, 3), 3
    change = (2**63 - 1) // n // CAP
    start, trained = {"steps": np.array([0])}, {"steps": np.array([change])}
    total = total_of([encode(quantiser, start, trained, examples=CAP)] * n)
    model, _ = decode_update(quantiser, start, total, n)
    assert int(model["steps"][0]) == change


def test_the_largest_int64_may_be_unsigned() -> None:
    quantiser, largest = Quantiser(16, 1.0, CAP, 3), {"steps": np.array([2**63 - 1], np.uint64)}
    model, _ = decode_update(
        quantiser, largest, total_of([encode(quantiser, largest, largest)] * 3), 3
    )
    assert model["steps"].tolist() == [2**63 - 1]


def test_an_unsigned_value_that_cannot_be_decoded_is_refused_before_it_is_sent() -> None:
    huge = {"steps": np.array([2**63 + 1], np.uint64)}
    with pytest.raises(LocalError, match="'steps'"):
        encode(Quantiser(16, 1.0, CAP, 3), huge, huge)


def test_an_unsigned_value_beyond_int64_is_named_when_decoding() -> None:
    quantiser, huge = Quantiser(16, 1.0, CAP, 3), {"steps": np.array([2**63], np.uint64)}
    plain = {"steps": np.array([0])}
    with pytest.raises(LocalError, match="'steps'"):
        decode_update(quantiser, huge, total_of([encode(quantiser, plain, plain)] * 3), 3)


# -- the digest of a model --------------------------------------------------------------------------


def test_the_model_digest_binds_names_shapes_dtypes_order_and_contents() -> None:
    zero = np.zeros(4, np.float32)
    models: list[Arrays] = [
        {"a": zero, "b": zero},
        {"b": zero, "a": zero},
        {"a": zero, "c": zero},
        {"a": zero, "b": zero.reshape(2, 2)},
        {"a": zero, "b": zero.astype(np.int32)},
        {"a": zero, "b": np.array([0, 0, 0, 1e-9], np.float32)},
        {"a": zero},
        {"a": np.zeros(8, np.float32)},
        {},
    ]
    assert len({model_digest(model) for model in models}) == len(models)


def test_the_model_digest_does_not_depend_on_the_memory_layout() -> None:
    array = np.arange(12.0).reshape(3, 4)
    assert model_digest({"a": array}) == model_digest({"a": np.asfortranarray(array)})
    assert model_digest({"a": array}) == model_digest({"a": np.hstack([array, array])[:, :4]})


# -- several groups ---------------------------------------------------------------------------------------


@given(st.lists(st.integers(3, 9), min_size=2, max_size=4), st.integers(0, 2**32 - 1))
def test_the_sums_of_groups_give_what_one_sum_of_all_gives(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    given_ = {"w": rng.normal(size=5), "n": rng.integers(-9, 9, 3)}
    sums, updates, weights = [], [], []
    for size in sizes:
        quantiser = Quantiser(32, 1.0, 50, size)
        total = ModelShape.of(given_).layout(32).zeros()
        for _ in range(size):
            trained = {
                "w": given_["w"] + rng.uniform(-1, 1, 5),
                "n": given_["n"] + rng.integers(-9, 9),
            }
            examples = int(rng.integers(1, 80))
            total += encode(
                quantiser, given_, trained, examples=examples, key=Secret(rng.bytes(32))
            )
            updates.append(trained)
            weights.append(min(examples, 50))
        sums.append((quantiser, total))
    found = new_model(given_, sums, sum(weights))
    mean = np.average([trained["w"] for trained in updates], axis=0, weights=weights)
    np.testing.assert_allclose(found["w"], mean, atol=1e-4)
    change = sum(
        (trained["n"] - given_["n"]) * weight
        for trained, weight in zip(updates, weights, strict=True)
    )
    expected = given_["n"] + (2 * change + sum(weights)) // (2 * sum(weights))  # half up, exactly
    assert (found["n"] == expected).all()
