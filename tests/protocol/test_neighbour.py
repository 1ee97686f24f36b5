"""What a peer has of its neighbours: counted where it is all there, and forgotten when it is secret."""

from __future__ import annotations

import pytest

from smpcfl.protocol import failures
from smpcfl.protocol.keystream import Secret
from smpcfl.protocol.merkle import share_hash
from smpcfl.protocol.messages import Agreement, Dealt
from smpcfl.protocol.neighbour import Neighbour, Neighbours, failure_sums
from smpcfl.protocol.shamir import SHARE_BYTES

SELF, PAIR = Secret(b"s" * SHARE_BYTES), Secret(b"p" * SHARE_BYTES)
PATH = (bytes(16),)


def agreement(peer: int, survivors: bytes, failure_sum: int | None = None) -> Agreement:
    return Agreement(bytes(32), survivors, peer, bytes(64), failure_sum)


@pytest.fixture
def known() -> Neighbours:
    found = Neighbours()
    found[1].dealt = Dealt(SELF, PAIR, PATH)
    found[1].failure_share, found[2].failure_share = failures.PRIME - 1, 5
    found[2].delivered = 2
    found[1].agreement, found[2].agreement = agreement(1, b"a" * 32, 7), agreement(2, b"b" * 32)
    return found


@pytest.mark.parametrize(
    ("kind", "share", "other"), [("self", SELF, PAIR), ("pair", PAIR, SELF)], ids=["self", "pair"]
)
def test_a_share_is_shown_with_the_hash_of_the_other_and_no_more(
    known: Neighbours, kind: str, share: Secret, other: Secret
) -> None:
    shown = known[1].shown(kind, dealer=1, holder=3)
    sibling = share_hash("pair" if kind == "self" else "self", 3, other)
    assert (shown.dealer, shown.share, shown.sibling, shown.path) == (1, share, sibling, PATH)


def test_only_what_came_is_in_the_tables(known: Neighbours) -> None:
    assert known[3].dealt is None, "nothing is known of whoever is looked up first"
    assert known.held.keys() == {1}


def test_agreements_count_for_their_own_set_alone(known: Neighbours) -> None:
    assert [item.peer for item in known.agreed(b"a" * 32)] == [1]
    assert known.agreed(b"c" * 32) == []


def test_the_failures_are_summed_in_their_field_or_not_at_all(known: Neighbours) -> None:
    assert known.failure_sum([0, 1, 2], own={0: 4}) == 8
    assert known.failure_sum([0, 1, 2, 3], own={0: 4}) is None
    assert known.failure_sum([1], own={1: 2}) == 2, "its own share comes before what was sent"


def test_who_could_not_count_is_left_out() -> None:
    assert failure_sums([agreement(1, bytes(32), 0), agreement(2, bytes(32))]) == {1: 0}


def test_secrets_are_forgotten_and_the_rest_is_kept(known: Neighbours) -> None:
    known.forget_secrets()
    assert known.held == {}
    assert known.failure_sum([1], own={}) is None
    assert known[2].delivered == 2


@pytest.mark.parametrize(
    ("calls", "replied", "told", "knows"),
    [
        (0, False, False, False),
        (0, False, True, True),  # it answered a call
        (1, True, False, True),
        (1, False, False, False),
        (2, True, False, False),  # it would not say so again if it had heard the reply
        (2, True, True, True),
    ],
)
def test_who_says_again_that_a_pair_counts_has_not_heard_the_reply(
    calls: int, replied: bool, told: bool, knows: bool
) -> None:
    assert Neighbour(calls=calls, replied=replied, told=told).knows is knows
