"""Whole rounds of drawn groups, in memory: within a group's tolerance the lost cost nobody but themselves."""

from __future__ import annotations

import os
import random
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smpcfl.protocol.draw import cut
from smpcfl.protocol.errors import RemoteError
from smpcfl.protocol.grouping import Drawn
from smpcfl.protocol.policy import Policy
from smpcfl.protocol.ticket import default_min_survivors, default_threshold
from support.drawn import ISSUED, drawn, groups_of, seeded_entropy
from support.network import PHASES, SignedTicket, cheap_signer_of, make_ticket, peer_ids
from support.remembering import Remembering

SMALL = 30
LARGE = int(os.environ.get("COHORT", "60"))  # 200 takes minutes
NOW_MS = (ISSUED + 60) * 1000


def ticket_of(cohort: tuple[str, ...], **changes: int) -> SignedTicket:
    threshold = default_threshold(len(cohort) - 1)
    ticket = replace(
        make_ticket(3).ticket,
        cohort=cohort,
        threshold=threshold,
        min_survivors=default_min_survivors("seeded", len(cohort), threshold),
        **changes,
    )
    return SignedTicket(ticket, cheap_signer_of("aggregator")(ticket.signed_bytes))


def network(signed: SignedTicket, lost: dict[str, str], known: Drawn, seed: int) -> Remembering:
    return Remembering(
        signed,
        seed=seed,
        lost=lost,
        policy=Policy(min_cohort=3),
        cheap=True,
        now_ms=NOW_MS,
        drawn=known,
    )


def most_lost(cohort: int) -> int:
    """So many may be lost at any phase: t + 1 have to agree, and t to answer."""
    return cohort - default_threshold(cohort - 1) - 1


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(5, 12), st.integers(0, 30), st.integers(0, 2**32))
def test_what_is_lost_in_one_group_is_nothing_to_the_others(
    size: int, more: int, seed: int
) -> None:
    chance, peers = random.Random(seed), peer_ids(2 * size + more)
    groups = groups_of(cut(peers, size, seeded_entropy(seed)))
    known = drawn(groups)
    broken = chance.choice(groups)
    for group in groups:
        tolerated = most_lost(len(group.cohort))
        count = tolerated + 1 if group is broken else chance.randint(0, tolerated)
        phases = ["exchange", "upload"] if group is broken else list(PHASES)
        lost = {peer: chance.choice(phases) for peer in chance.sample(group.cohort, count)}
        round_ = network(ticket_of(group.cohort, draw=7, group=group.group), lost, known, seed)
        if group is broken:
            with pytest.raises(RemoteError):
                round_.run()
            continue
        assert round_.run() == round_.expected()
        gone = {peer for peer, phase in lost.items() if phase not in ("agree", "unmask")}
        assert set(round_.survivors) == set(group.cohort) - gone


def play(n: int, beyond: bool, seed: int) -> None:
    """A round of one cohort that completes, or is void, as it has to."""
    chance, cohort = random.Random(seed), peer_ids(n)
    count = most_lost(n) + 1 if beyond else chance.randint(0, most_lost(n))
    phases = ["exchange", "upload"] if beyond else list(PHASES)
    lost = {peer: chance.choice(phases) for peer in chance.sample(cohort, count)}
    round_ = network(ticket_of(cohort), lost, Drawn(), seed)
    if beyond:
        with pytest.raises(RemoteError):
            round_.run()
    else:
        assert round_.run() == round_.expected()


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(3, SMALL), st.booleans(), st.integers(0, 2**32))
def test_a_cohort_completes_within_its_tolerance_and_is_void_beyond(
    n: int, beyond: bool, seed: int
) -> None:
    play(n, beyond, seed)


@pytest.mark.parametrize("beyond", [False, True])
def test_so_does_a_large_one(beyond: bool) -> None:
    play(LARGE, beyond, LARGE)
