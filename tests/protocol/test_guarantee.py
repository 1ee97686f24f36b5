"""How many colluders a round withstands, as a peer, the report and `smpcfl status` say it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from smpcfl.protocol.guarantee import guarantee, withstands
from smpcfl.protocol.ticket import ADDITIVE, SEEDED, Ticket
from support.network import make_ticket


def ticket(n: int, **changes: object) -> Ticket:
    return replace(make_ticket(n).ticket, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("n", "colluders"), [(3, 0), (4, 0), (5, 1), (7, 1), (8, 2), (10, 2), (11, 3), (100, 32)]
)
def test_3c_plus_2_peers_withstand_c(n: int, colluders: int) -> None:
    assert withstands(ticket(n)) == colluders


@pytest.mark.parametrize("n", range(3, 200))
def test_two_survivor_sets_share_an_honest_peer_and_two_contributors_are_honest(n: int) -> None:
    found = ticket(n)
    colluders = withstands(found)
    # t agreements each, of n peers: honest ones in both are at least 2t + 2 - n - c, itself counted.
    assert 2 * (found.threshold + 1) - n - colluders >= 1
    assert colluders == 0 or found.min_survivors - colluders >= 2


def test_a_lower_threshold_withstands_fewer() -> None:
    assert withstands(ticket(11, threshold=8, min_survivors=8)) == 3
    assert withstands(ticket(11, threshold=7, min_survivors=8)) == 3
    assert withstands(ticket(11, threshold=6, min_survivors=8)) == 1
    assert withstands(ticket(11, threshold=5, min_survivors=8)) == 0


def test_a_sum_of_few_withstands_fewer() -> None:
    assert withstands(ticket(11, min_survivors=4)) == 2
    assert withstands(ticket(11, min_survivors=3)) == 1


def test_additive_withstands_all_but_two() -> None:
    assert withstands(make_ticket(8, mode=ADDITIVE).ticket) == 6


def test_it_is_put_into_words() -> None:
    assert (
        guarantee(2, 8, SEEDED) == "an aggregator and 2 of the 8 peers together learn the sum only"
    )
    assert "an aggregator that colludes with none of the 3 peers" in guarantee(0, 3, SEEDED)


def test_of_additive_it_claims_no_more_than_holds() -> None:
    """The same model over the cohort less one gives that one: nobody there keeps sets."""
    assert guarantee(3, 5, ADDITIVE) == (
        "a curious aggregator and 3 of the 5 peers together learn the sum only;"
        " one that picks cohorts learns more"
    )
