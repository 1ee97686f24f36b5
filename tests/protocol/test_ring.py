"""Ring laws, over every width."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smpcfl.protocol.errors import LocalError, Reason, RemoteError
from smpcfl.protocol.ring import WIDTHS, Layout, RingVector, signed

layouts = st.builds(Layout, st.sampled_from(WIDTHS), st.integers(0, 9), st.integers(0, 5))


@st.composite
def vectors(draw: st.DrawFn, count: int) -> list[RingVector]:
    layout = draw(layouts)
    size = layout.nbytes
    return [layout.parse(draw(st.binary(min_size=size, max_size=size))) for _ in range(count)]


@given(vectors(3))
def test_addition_is_associative(abc: list[RingVector]) -> None:
    a, b, c = abc
    assert (a + b) + c == a + (b + c)


@given(vectors(2))
def test_addition_commutes(ab: list[RingVector]) -> None:
    a, b = ab
    assert a + b == b + a


@given(vectors(1))
def test_zero_is_neutral(a: list[RingVector]) -> None:
    assert a[0] + a[0].layout.zeros() == a[0]


@given(vectors(2))
def test_subtraction_inverts_addition(ab: list[RingVector]) -> None:
    a, b = ab
    assert a + b - b == a
    assert a - a == a.layout.zeros()


@given(vectors(1))
def test_bytes_round_trip(a: list[RingVector]) -> None:
    raw = a[0].tobytes()
    assert len(raw) == a[0].layout.nbytes
    assert a[0].layout.parse(raw) == a[0]


@pytest.mark.parametrize("width", WIDTHS)
def test_elements_are_little_endian(width: int) -> None:
    raw = bytes([1]) + bytes(width // 8 - 1) + bytes([2]) + bytes(7)
    vector = Layout(width, 1, 1).parse(raw)
    assert (int(vector.body[0]), int(vector.wide[0])) == (1, 2)


@pytest.mark.parametrize("width", WIDTHS)
def test_arithmetic_wraps_around(width: int) -> None:
    layout = Layout(width, 1, 1)
    largest = layout.parse(b"\xff" * layout.nbytes)
    one = layout.zeros() - largest
    assert (int(one.body[0]), int(one.wide[0])) == (1, 1)
    assert largest + one == layout.zeros()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("off", [-1, 1, -19])
def test_a_wrong_length_is_refused_and_names_the_sender(width: int, off: int) -> None:
    layout = Layout(width, 3, 2)
    with pytest.raises(RemoteError) as error:
        layout.parse(bytes(layout.nbytes + off), "peer-7")
    assert error.value.reason is Reason.WRONG_LENGTH
    assert error.value.peer == "peer-7"
    assert (error.value.expected, error.value.found) == (layout.nbytes, layout.nbytes + off)


@pytest.mark.parametrize(
    ("width", "body", "wide"), [(4, 1, 1), (0, 1, 1), (128, 1, 1), (16, -1, 0), (16, 0, -1)]
)
def test_an_impossible_layout_is_refused(width: int, body: int, wide: int) -> None:
    with pytest.raises(LocalError):
        Layout(width, body, wide)


@pytest.mark.parametrize("width", WIDTHS)
def test_elements_read_as_twos_complement(width: int) -> None:
    values = np.array([0, 1, 2 ** (width - 1) - 1, 2 ** (width - 1), 2**width - 1], np.uint64)
    half = 2 ** (width - 1)
    found = signed(values.astype(Layout(width, 0, 0).dtype))
    assert found.tolist() == [0, 1, half - 1, -half, -1]


@pytest.mark.parametrize("width", WIDTHS)
def test_vectors_of_different_widths_differ(width: int) -> None:
    other = Layout(16 if width != 16 else 32, 2, 1).zeros()
    assert Layout(width, 2, 1).zeros() != other


def test_repr_shows_no_element() -> None:
    assert repr(Layout(16, 1, 0).parse(b"\x34\x12")) == "RingVector(body=1xuint16, wide=0)"
