"""The canonical encoding: one byte string for one meaning."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smpcfl.protocol import encoding
from smpcfl.protocol.encoding import Item, canonical, digest

scalars = st.one_of(
    st.integers(-(2**63), 2**64 - 1),
    st.binary(max_size=4),
    st.text(max_size=4),
    st.floats(allow_nan=False),
)
items = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3), max_leaves=6)


def typed(item: Item) -> object:
    """A value that is equal only for items of equal type and content."""
    if isinstance(item, list):
        return [typed(part) for part in item]
    return (type(item).__name__, repr(item))


@given(st.lists(items, max_size=4), st.lists(items, max_size=4))
def test_different_items_encode_differently(one: list[Item], other: list[Item]) -> None:
    same = typed(one) == typed(other)
    assert (canonical("d", *one) == canonical("d", *other)) == same


AMBIGUOUS: list[tuple[Item, ...]] = [
    (),
    ("",),
    (b"",),
    ([],),
    ("ab", "c"),
    ("a", "bc"),
    (["a", "b"], "c"),
    (["a"], "b", "c"),
    ("1",),
    (1,),
    (1.0,),
    (b"1",),
]


@pytest.mark.parametrize(("one", "other"), [*combinations(AMBIGUOUS, 2)])
def test_the_usual_confusions(one: tuple[Item, ...], other: tuple[Item, ...]) -> None:
    assert digest("d", *one) != digest("d", *other)


def test_domains_are_apart() -> None:
    assert canonical("header", b"x") != canonical("agreement", b"x")


def test_what_outlives_a_round_stays_as_it_is_when_tickets_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else a peer could not show its node to an aggregator of the next version, nor know a model again."""
    lasting = ("node", "node key", "draw", "draw cohort", "model", "configuration", "config")
    before = {domain: canonical(domain) for domain in (*lasting, "ticket", "header", "pair mask")}
    monkeypatch.setattr(encoding, "VERSION", encoding.VERSION + 1)
    encoding._prefix.cache_clear()
    try:
        changed = {domain for domain, known in before.items() if canonical(domain) != known}
    finally:
        encoding._prefix.cache_clear()
    assert changed == {"ticket", "header", "pair mask"}
