"""The draw: a deployment is cut into disjoint groups of the right size, and nothing but chance says how."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, replace
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smpcfl.protocol.draw import (
    LEAST_GROUP_SIZE,
    LIFE_S,
    Group,
    cut,
    make_groups,
    may_be_cut,
    to_draw,
)
from smpcfl.protocol.errors import LocalError, Reason, RemoteError
from support.drawn import CA, ISSUED, fingerprint_of, groups_of, seeded_entropy
from support.network import peer_ids

SIZES = st.integers(LEAST_GROUP_SIZE, 80)


@given(SIZES, st.integers(0, 1500), st.integers())
def test_every_peer_is_in_one_group_of_the_right_size(size: int, more: int, seed: int) -> None:
    peers = peer_ids(2 * size + more)
    groups = cut(peers, size, seeded_entropy(seed))
    assert sorted(peer for group in groups for peer in group) == list(peers)
    assert len(groups) >= 2
    assert all(size <= len(group) < 2 * size for group in groups)
    assert max(map(len, groups)) - min(map(len, groups)) <= 1
    assert all(list(group) == sorted(group) for group in groups)


@given(SIZES, st.integers(1, 160), st.integers())
def test_fewer_than_two_groups_are_one_cohort(size: int, peers: int, seed: int) -> None:
    if may_be_cut(peers, size):
        assert len(cut(peer_ids(peers), size, seeded_entropy(seed))) >= 2
    else:
        with pytest.raises(LocalError, match="too few"):
            cut(peer_ids(peers), size, seeded_entropy(seed))


def test_every_division_is_as_likely() -> None:
    peers, together = peer_ids(10), Counter[tuple[str, str]]()
    entropy = seeded_entropy("together")
    cuts = 2_000
    for _ in range(cuts):
        for group in cut(peers, 5, entropy):
            together.update(combinations(group, 2))
    # 4 of 9 others are with a peer: 888.9 times, standard deviation 22.2.
    assert len(together) == 45
    assert all(abs(count - cuts * 4 / 9) < 5 * 22.3 for count in together.values())


def test_what_is_beyond_the_last_whole_multiple_is_drawn_again() -> None:
    peers, given = peer_ids(10), [b"\xff" * 8, *[bytes(8)] * 20]
    taken: list[int] = []

    def entropy(count: int) -> bytes:
        taken.append(count)
        return given[len(taken) - 1]

    cut(peers, 5, entropy)
    # 2^64 - 1 is no whole multiple of ten, so nine places take ten draws.
    assert taken == [8] * 10


def test_the_order_of_the_roster_chooses_nothing() -> None:
    peers = peer_ids(200)
    assert cut(peers, 64, seeded_entropy(1)) == cut(peers[::-1], 64, seeded_entropy(1))
    assert cut(peers, 64, seeded_entropy(1)) != cut(peers, 64, seeded_entropy(2))


@pytest.mark.parametrize(("away", "left_out"), [(0, 0), (3, 3), (10, 10), (11, 10), (100, 10)])
def test_no_more_than_one_in_twenty_is_left_out_whoever_is_away(away: int, left_out: int) -> None:
    enrolled = peer_ids(200)
    drawn = to_draw(enrolled, enrolled[away:], seeded_entropy(away))
    assert len(drawn) == 200 - left_out
    assert drawn >= set(enrolled[away:])


def test_a_draw_says_the_same_of_itself_in_each_group() -> None:
    keys = {peer: fingerprint_of(peer) for peer in peer_ids(23)}
    groups = make_groups(
        keys,
        peer_ids(22),
        ca=CA,
        draw=3,
        issued=ISSUED,
        group_size=5,
        entropy=seeded_entropy(3),
    )
    assert [group.group for group in groups] == [1, 2, 3, 4]
    assert {group.drawn for group in groups} == {22}
    assert {group.left_out for group in groups} == {1}
    same = {"ca", "draw", "issued", "expires", "roster", "left_out", "cohort_digest", "groups"}
    assert all(len({getattr(group, name) for group in groups}) == 1 for name in same)
    assert dict(member for group in groups for member in group.members) == {
        peer: keys[peer] for peer in peer_ids(22)
    }


BASE = groups_of([peer_ids(10)[::2], peer_ids(10)[1::2]])[0]
CHANGES: dict[str, list[Any]] = {
    "ca": [b"", bytes(31)],
    "draw": [0, -1, 2**63],
    "issued": [0, ISSUED + LIFE_S],
    "expires": [ISSUED, ISSUED + LIFE_S + 1],
    "roster": [0, 2**32, 8, 12],
    "left_out": [-1, 10, 2],
    "cohort_digest": [bytes(33)],
    "group": [0, 3],
    "groups": [0, 3],
    "members": [
        (),
        BASE.members[::-1],
        (BASE.members[0], *BASE.members[:-1]),
        BASE.members[:3],
        tuple((peer, key[:-1]) for peer, key in BASE.members),
        tuple(sorted([("", bytes(32)), *BASE.members[1:]])),
        tuple(sorted([("p" * 65, bytes(32)), *BASE.members[1:]])),
    ],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in CHANGES.items() for value in values]
)
def test_a_statement_out_of_range_is_malformed(name: str, value: Any) -> None:
    with pytest.raises(RemoteError) as error:
        replace(BASE, **{name: value})
    assert error.value.reason is Reason.MALFORMED


def test_the_signature_binds_every_field() -> None:
    assert {item.name for item in fields(Group)} == CHANGES.keys()
    changes: dict[str, Any] = {
        "ca": bytes(32),
        "draw": 8,
        "issued": ISSUED - 1,
        "expires": ISSUED + 5,
        "roster": 11,
        "left_out": 0,
        "cohort_digest": bytes(32),
        "group": 2,
        "groups": 2,
        "members": tuple((peer, bytes(32)) for peer, _ in BASE.members),
    }
    base = {
        "issued": replace(BASE, expires=ISSUED + 5),
        "left_out": replace(BASE, roster=11, left_out=1),
        "groups": replace(BASE, roster=15, groups=3),
    }
    for name, value in changes.items():
        one = base.get(name, BASE)
        changed = {name: value} | ({"roster": 10} if name in ("left_out", "groups") else {})
        assert replace(one, **changed).signed_bytes != one.signed_bytes, name
