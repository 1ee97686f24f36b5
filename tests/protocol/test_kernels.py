"""The passes over whole vectors: the same bits as the plain formula, and no second vector in memory."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smpcfl.protocol import kernels
from smpcfl.protocol.keystream import Secret, add_keystreams, expand, keystream
from smpcfl.protocol.ring import WIDTHS, Layout
from support.network import random_addend

KEYS = [Secret(bytes([number]) * 32) for number in range(40)]
STEP = kernels.BLOCK
LENGTHS = [0, 1, 2, 31, STEP // 8 - 1, STEP // 8 + 1, STEP // 2 + 3, STEP // 2 * 3]


def stream_of(key: Secret, count: int) -> bytes:
    """The keystream at once."""
    return keystream(key).update(bytes(count))


@pytest.mark.parametrize("keys", [0, 1, 2, 33])
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("width", WIDTHS)
def test_masks_are_whole_keystreams_added_and_subtracted(
    width: int, length: int, keys: int
) -> None:
    layout = Layout(width, length, 11)
    start = random_addend(layout, np.random.default_rng(length))
    total = start.copy()
    plus, minus = KEYS[: keys // 2], KEYS[keys // 2 : keys]
    add_keystreams(total, plus, minus)
    expected = start.copy()
    for key in plus:
        expected += layout.parse(stream_of(key, layout.nbytes))
    for key in minus:
        expected -= layout.parse(stream_of(key, layout.nbytes))
    assert total == expected
    assert expand(KEYS[0], layout).tobytes() == stream_of(KEYS[0], layout.nbytes)


@pytest.mark.parametrize("lengths", [[0], [1], [5, 0, 7], [STEP // 4, 1], [STEP // 8 - 1, STEP]])
@pytest.mark.parametrize(
    ("floats", "chance"),
    [(np.float32, "<u2"), (np.float64, "<u1"), (np.float64, "<u2"), (np.float64, "<u4")],
)
@pytest.mark.parametrize("largest_scale", [True, False])
def test_quantised_is_the_formula_entry_by_entry(
    largest_scale: bool, lengths: list[int], floats: Any, chance: str
) -> None:
    bits = np.dtype(chance).itemsize * 8
    # The largest, and one with which units have a fraction to round.
    scale = 2.0 ** (30 - bits if floats is np.float32 else 61 - bits) / 3 if largest_scale else 3.0
    rng = np.random.default_rng(1)
    old = [rng.normal(size=length).astype(floats) for length in lengths]
    new = [a + rng.uniform(-1, 1, a.shape).astype(floats) for a in old]
    out = np.zeros(sum(lengths), "<u8")
    largest = kernels.quantise(
        zip(old, new, strict=True), scale, floats, np.dtype(chance), keystream(KEYS[0]), out
    )
    x = np.concatenate(new) - np.concatenate(old)
    raw = stream_of(KEYS[0], x.size * bits // 8)
    factor = floats(scale * 2.0**bits)
    expected = [
        ((round(float(value * factor)) + int(u)) >> bits) % 2**64
        for value, u in zip(x, np.frombuffer(raw, chance), strict=True)
    ]
    assert out.tolist() == expected
    assert largest == float(np.abs(x).max(initial=0.0))


def test_the_difference_is_in_the_floats_of_the_computation() -> None:
    old, new = np.array([2049], np.float16), np.array([0.3], np.float16)
    out = np.zeros(1, "<u4")
    kernels.quantise([(old, new)], 1000.0, np.float64, np.dtype("<u4"), keystream(KEYS[0]), out)
    exact = (float(new[0]) - float(old[0])) * 1000.0  # float16 would make it a whole number
    assert abs(int(out.view("<i4")[0]) - exact) <= 1.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 3, STEP // 4, STEP])
def test_the_largest_is_nan_or_infinite_wherever_an_entry_is(bad: float, place: int) -> None:
    old = np.zeros(STEP + 1, np.float32)
    new = np.linspace(-1, 1, STEP + 1, dtype=np.float32)
    new[place] = bad
    largest = kernels.quantise(
        [(old, new)], 1.0, np.float32, np.dtype("<u2"), keystream(KEYS[0]), np.zeros(len(new), "u2")
    )
    assert not np.isfinite(largest)


@pytest.mark.parametrize("length", [0, 1, STEP // 8 + 1])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_means_are_added_in_float64(length: int, width: int, dtype: Any) -> None:
    rng = np.random.default_rng(length)
    old = rng.normal(size=length).astype(dtype)
    sums = [random_addend(Layout(width, length, 8), rng).body for _ in range(3)]
    units = [2.0**-width, 3.0**-width, 2.0 ** (-width - 1)]
    new = np.empty_like(old)
    kernels.add_means(old, list(zip(sums, units, strict=True)), new)
    expected = np.zeros(length)
    for words, unit in zip(sums, units, strict=True):
        expected += words.view(f"<i{width // 8}").astype(np.float64) * unit
    assert np.array_equal(new, (old.astype(np.float64) + expected).astype(dtype))


WHOLE = st.integers(-(2**63), 2**63 - 1)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(WHOLE, WHOLE), max_size=6), st.integers(1, 2**20), st.integers(3, 1000))
def test_changes_of_integers_are_exact_or_refused(
    pairs: list[tuple[int, int]], weight: int, cohort: int
) -> None:
    bound = (2**63 - 1) // cohort
    old, new = (np.array(side, np.int64) for side in (list(zip(*pairs, strict=True)) or [[], []]))
    out = np.zeros(len(pairs), "<u8")
    changes = [(after - before) * weight for before, after in pairs]
    possible = all(abs(change) <= bound for change in changes)
    assert kernels.scaled_changes(old, new, weight, bound, out) is possible
    if possible:
        assert out.view(np.int64).tolist() == changes


SCRIPT = """
import json, sys
import numpy as np
from smpcfl.protocol import trailer
from smpcfl.protocol.keystream import Secret
from smpcfl.protocol.masks import SeededMasks
from smpcfl.protocol.quantise import Quantiser, decode_update, encode_update, model_digest

def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))

def reset():
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")

count, keys = int(sys.argv[1]), [Secret(bytes([n]) * 32) for n in range(32)]
given = {"w": np.ones(count, np.float32)}
trained = {"w": np.full(count, 1.5, np.float32)}
one = Quantiser(16, 1.0, 100, 32)
reset()
before = peak()
model_digest(given)
addend = encode_update(one, given, trained, examples=10, rounding=keys[0])
SeededMasks(keys[0], tuple(keys[1:16]), tuple(keys[16:])).apply(addend)
client = peak() - before
addend = encode_update(one, given, trained, examples=10, rounding=keys[0])
reset()
before = peak()
decode_update(one, given, addend, 1)
print(json.dumps([client, peak() - before]))
"""


@pytest.mark.commands
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from /proc")
def test_memory_grows_by_the_upload_and_the_new_model_alone() -> None:
    """Fitted to three sizes: bytes for each entry beyond what was there before."""
    found = {}
    for count in (10**6, 10**7, 10**8):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(count)], capture_output=True, text=True, check=True
        )
        found[count] = json.loads(done.stdout)
    for small, large in pairwise(found):
        client, server = (
            (more - less) / (large - small)
            for less, more in zip(found[small], found[large], strict=True)
        )
        assert 1.8 < client < 2.3  # 16 bits, and no float of its own
        assert 3.6 < server < 4.5  # the new model, float32
