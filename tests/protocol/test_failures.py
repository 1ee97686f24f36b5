"""How many trainings failed: t + 1 agreements open the number, t of them leave it open."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smpcfl.protocol import failures
from smpcfl.protocol.failures import PRIME, draw, hide, opened, split
from smpcfl.protocol.ticket import default_threshold
from support.network import entropy_from


@dataclass
class Shared:
    """What `n` peers share of whether their trainings failed."""

    n: int
    failed: list[bool]
    seed: int

    def __post_init__(self) -> None:
        entropy = entropy_from(self.seed)
        self.threshold = default_threshold(self.n - 1)
        self.masks = [draw(entropy) for _ in range(self.n)]
        self.shares = [split(mask, self.threshold, self.n, entropy) for mask in self.masks]
        self.hidden = [hide(*pair) for pair in zip(self.failed, self.masks, strict=True)]

    def sum_of(self, holder: int, survivors: list[int]) -> int:
        return sum(self.shares[dealer][holder] for dealer in survivors) % PRIME


@st.composite
def shared(make: Any) -> tuple[Shared, list[int], list[int]]:
    """With survivors, and t + 1 of all peers whose sums are there."""
    n = make(st.integers(3, 12))
    found = Shared(n, make(st.lists(st.booleans(), min_size=n, max_size=n)), make(st.integers()))
    everyone = st.permutations(range(n))
    survivors = sorted(make(everyone)[: make(st.integers(1, n))])
    return found, survivors, make(everyone)[: found.threshold + 1]


@given(shared())
def test_any_t_plus_1_sums_open_the_number(case: tuple[Shared, list[int], list[int]]) -> None:
    made, survivors, holders = case
    sums = {holder: made.sum_of(holder, survivors) for holder in holders}
    hidden = [made.hidden[dealer] for dealer in survivors]
    assert opened(hidden, sums) == sum(made.failed[dealer] for dealer in survivors)


@given(shared(), st.integers(1, PRIME - 1))
def test_one_wrong_sum_gives_no_other_number_that_could_be_one(
    case: tuple[Shared, list[int], list[int]], off: int
) -> None:
    made, survivors, holders = case
    sums = {holder: made.sum_of(holder, survivors) for holder in holders}
    sums[holders[0]] = (sums[holders[0]] + off) % PRIME
    hidden = [made.hidden[dealer] for dealer in survivors]
    assert opened(hidden, sums) != sum(made.failed[dealer] for dealer in survivors)


@given(shared(), st.integers(0, PRIME - 1))
def test_t_sums_leave_every_number_open(
    case: tuple[Shared, list[int], list[int]], number: int
) -> None:
    """For whatever number there is a last sum that gives it: what t holders see says nothing of it."""
    made, survivors, holders = case
    known = {holder: made.sum_of(holder, survivors) for holder in holders[:-1]}
    hidden = [made.hidden[dealer] for dealer in survivors]
    zero = opened(hidden, {**known, holders[-1]: 0})
    one = opened(hidden, {**known, holders[-1]: 1})
    last = (number - zero) * pow(one - zero, -1, PRIME) % PRIME
    assert opened(hidden, {**known, holders[-1]: last}) == number


@pytest.mark.parametrize("n", [3, 5, 8])
def test_t_shares_of_one_mask_do_not_determine_it(n: int) -> None:
    made = Shared(n, [False] * n, 1)
    for holders in itertools.combinations(range(n), made.threshold):
        got = opened([], {holder: made.shares[0][holder] for holder in holders})
        assert got != made.masks[0]
    for holders in itertools.combinations(range(n), made.threshold + 1):
        got = opened([], {holder: made.shares[0][holder] for holder in holders})
        assert got == made.masks[0]


@given(st.integers(0, PRIME - 1))
def test_a_header_hides_one_bit_behind_its_mask(mask: int) -> None:
    assert 0 <= hide(True, mask) < PRIME
    assert (hide(True, mask) - hide(False, mask)) % PRIME == 1
    assert (hide(False, mask) + mask) % PRIME == 0


def test_a_mask_is_drawn_from_far_more_bits_than_the_field_has() -> None:
    asked: list[int] = []

    def entropy(count: int) -> bytes:
        asked.append(count)
        return b"\xff" * count

    assert draw(entropy) == (2**192 - 1) % PRIME
    assert asked == [24]
    assert pow(3, PRIME - 1, PRIME) == 1
    split(5, 4, 6, entropy)
    assert asked[1:] == [24] * 4  # a coefficient for each of t: t + 1 shares are needed
    assert failures.PRIME == 2**61 - 1
