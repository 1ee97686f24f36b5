"""Whom the aggregator leaves out: nobody who sends a header can choose that."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from itertools import permutations

import pytest

from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.messages import Header, Survivors
from smpcfl.protocol.policy import Policy
from smpcfl.protocol.survivors import (
    _all_mutual,
    check_contributors,
    choose_survivors,
    mutual,
    one_sided,
)
from smpcfl.protocol.ticket import Ticket
from support.network import make_ticket

TICKET = make_ticket(8).ticket
EVERYONE = frozenset(range(8))
TRIES = 400


def hash_of(index: int) -> bytes:
    return hashlib.sha256(bytes([index])).digest()


def headers(
    ticket: Ticket = TICKET,
    hidden: frozenset[tuple[int, int]] = frozenset(),
    attempt: int = 0,
    varied: frozenset[int] = EVERYONE,
) -> dict[int, Header]:
    """One from each peer; (i, j) in `hidden`: i does not list j. `attempt` varies some signatures."""
    found = {}
    for i in range(len(ticket.cohort)):
        named = tuple(
            (j, hash_of(j)) for j in range(len(ticket.cohort)) if j != i and (i, j) not in hidden
        )
        signed = f"{i}/{attempt if i in varied else 0}".encode()
        signature = hashlib.sha512(signed).digest()
        found[i] = Header(ticket.digest, i, hash_of(i), named, signature, 5)
    return found


def left_out(found: dict[int, Header], ticket: Ticket = TICKET) -> frozenset[int]:
    return frozenset(range(len(ticket.cohort))).difference(choose_survivors(ticket, found))


def odds(hidden: frozenset[tuple[int, int]], varied: frozenset[int]) -> Counter[frozenset[int]]:
    return Counter(
        left_out(headers(hidden=hidden, attempt=attempt, varied=varied)) for attempt in range(TRIES)
    )


@pytest.mark.parametrize("liar", [0, 3, 7])
@pytest.mark.parametrize("victim", [1, 6])
def test_who_hides_a_neighbour_goes_itself_as_often_as_not(liar: int, victim: int) -> None:
    """Five deviations of a fair coin are 50 of 400."""
    found = odds(frozenset({(liar, victim)}), EVERYONE)
    assert found.keys() == {frozenset({liar}), frozenset({victim})}
    assert all(abs(count - TRIES / 2) < 50 for count in found.values())


@pytest.mark.parametrize("one", [1, 4, 5])
def test_the_lot_is_over_every_header_and_not_the_liars_alone(one: int) -> None:
    """Whatever the liar tries, another's signature decides anew."""
    found = odds(frozenset({(3, 6)}), frozenset({one}))
    assert all(abs(count - TRIES / 2) < 50 for count in found.values())
    assert len(found) == 2


def test_who_hides_more_goes_itself() -> None:
    hidden = frozenset({(3, 6), (3, 5)})
    assert odds(hidden, EVERYONE).keys() == {frozenset({3})}


def test_the_same_headers_give_the_same_survivors_in_any_order() -> None:
    found = headers(hidden=frozenset({(3, 6)}))
    backwards = dict(reversed(found.items()))
    assert choose_survivors(TICKET, found).keys() == choose_survivors(TICKET, backwards).keys()


# -- t + 1 of them can count the failures -------------------------------------------------------------------


def pairs(*cut: tuple[int, int]) -> frozenset[tuple[int, int]]:
    return frozenset(item for i, j in cut for item in ((i, j), (j, i)))


def counting(found: dict[int, Header], chosen: frozenset[int]) -> int:
    return sum(chosen <= header.counts.keys() | {i} for i, header in found.items())


def test_a_pair_that_never_met_is_kept_where_enough_others_met_all() -> None:
    for attempt in range(20):
        assert not left_out(headers(hidden=pairs((0, 1)), attempt=attempt))


def test_where_fewer_than_t_plus_1_list_all_someone_unlisted_is_left_out() -> None:
    assert TICKET.threshold == 5
    found = Counter[frozenset[int]]()
    for attempt in range(TRIES):
        given = headers(hidden=pairs((0, 1), (2, 3)), attempt=attempt)
        assert counting(given, EVERYONE) == 4
        gone = left_out(given)
        assert counting(given, EVERYONE.difference(gone)) >= TICKET.threshold + 1
        found[gone] += 1
    assert found.keys() == {frozenset({i, j}) for i in (0, 1) for j in (2, 3)}, "one of each pair"
    assert all(abs(count - TRIES / 4) < 50 for count in found.values())


def test_one_whom_many_do_not_list_goes_alone() -> None:
    hidden = pairs((0, 1), (0, 2))
    given = headers(hidden=hidden)
    assert counting(given, EVERYONE) == 5
    assert left_out(given) == {0}


@pytest.mark.parametrize("n", [5, 8, 11])
def test_what_is_chosen_can_always_be_counted_and_has_no_conflict(n: int) -> None:
    ticket = make_ticket(n).ticket
    for attempt in range(60):
        draw = hashlib.shake_256(f"{n}/{attempt}".encode()).digest(12)
        cut = {(a % n, b % n) for a, b in zip(draw[::2], draw[1::2], strict=True) if a % n != b % n}
        hidden = frozenset(cut) if attempt % 2 else pairs(*cut)
        given = headers(ticket, hidden, attempt)
        chosen = choose_survivors(ticket, given)
        if not chosen:
            continue
        assert counting(given, frozenset(chosen)) >= ticket.threshold + 1
        for i, header in chosen.items():
            assert sum(mutual(header, chosen[j]) for j in chosen if j != i) >= ticket.threshold
            assert not any(j in header.counts and i not in chosen[j].counts for j in chosen)


@pytest.mark.parametrize(
    ("failed", "text"),
    [
        (6, "at least 3 are needed"),
        (8, "at least 3 are needed"),
        (9, "the count of failed trainings is none"),
    ],
)
def test_too_many_failed_trainings_are_told_from_a_count_that_is_none(
    failed: int, text: str
) -> None:
    message = Survivors(TICKET.digest, tuple(range(8)), (), bytes(32), bytes(64))
    ticket, policy = make_ticket(8, min_survivors=3).ticket, Policy()
    check_contributors(ticket, policy, message, 5)
    with pytest.raises(RemoteError, match=text) as error:
        check_contributors(ticket, policy, message, failed)
    assert error.value.reason is Reason.TOO_FEW_CONTRIBUTORS


def test_headers_compared_as_sets_are_all_mutual_where_no_pair_is_one_sided() -> None:
    """Over random lists, some of them with gaps, strangers, or another's announcement."""
    rng, found = random.Random(1), set[bool]()
    for _ in range(2000):
        named = {i: bytes([i]) * 32 for i in range(rng.choice((3, 4, 5)))}
        sent = {}
        for i in named:
            counts = {j: named[j] for j in named if j != i and rng.random() < 0.95}
            if counts and rng.random() < 0.1:
                counts[rng.choice(sorted(counts))] = b"x" * 32
            if rng.random() < 0.3:
                counts[9] = b"z" * 32  # who is in no header here
            sent[i] = Header(bytes(32), i, named[i], tuple(counts.items()), bytes(64), 5)
        pairs = permutations(sent.values(), 2)
        expected = not any(one_sided(one, other) for one, other in pairs)
        assert _all_mutual(sent) == expected
        found.add(expected)
    assert found == {True, False}
