"""A peer's own policy: each limit refuses with its own reason, and an unsafe policy is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from smpcfl.protocol.errors import LocalError, Reason, RemoteError
from smpcfl.protocol.policy import Policy
from smpcfl.protocol.ticket import ADDITIVE, SEEDED, default_threshold
from support.network import make_ticket, peer_ids

BASE = make_ticket(8).ticket
POLICY = Policy(modes=(SEEDED, ADDITIVE), min_cohort=3)


@pytest.mark.parametrize("k", range(2, 41))
def test_two_thirds_of_the_degree_is_not_enough(k: int) -> None:
    cohort = peer_ids(k + 1)
    ticket = replace(BASE, cohort=cohort, threshold=default_threshold(k), min_survivors=3)
    POLICY.check(ticket)
    assert 3 * ticket.threshold > 2 * k >= 3 * (ticket.threshold - 1)
    if ticket.threshold > 1:
        with pytest.raises(RemoteError) as error:
            POLICY.check(replace(ticket, threshold=ticket.threshold - 1))
        assert error.value.reason is Reason.POLICY_THRESHOLD


@pytest.mark.parametrize(
    ("policy", "ticket", "reason"),
    [
        ({"modes": (ADDITIVE,)}, {}, Reason.POLICY_MODE),
        ({"modes": (SEEDED,)}, {"mode": ADDITIVE}, Reason.POLICY_MODE),
        ({"min_cohort": 9}, {}, Reason.POLICY_COHORT),
        ({"min_survivors": 7}, {"min_survivors": 6}, Reason.POLICY_SURVIVORS),
        ({}, {"min_survivors": 2}, Reason.POLICY_SURVIVORS),
        ({}, {"threshold": 4}, Reason.POLICY_THRESHOLD),
        ({"widths": (32, 64)}, {}, Reason.POLICY_RANGE),
        ({"clips": (0.25, 0.5)}, {}, Reason.POLICY_RANGE),
        ({"clips": (2.0, 4.0)}, {}, Reason.POLICY_RANGE),
        ({"weight_caps": (16, 99)}, {}, Reason.POLICY_RANGE),
        ({"weight_caps": (101, 200)}, {}, Reason.POLICY_RANGE),
        ({}, {"weighted_by": "loss"}, Reason.POLICY_RANGE),
        ({"weighted_by": ("batches", "images")}, {}, Reason.POLICY_RANGE),
        ({"members": frozenset(BASE.cohort[1:])}, {}, Reason.POLICY_MEMBERS),
        ({"max_vector_bytes": 83}, {}, Reason.POLICY_RANGE),
        ({"max_deadline_ms": 159_999}, {}, Reason.POLICY_RANGE),
    ],
)
def test_each_limit_refuses_with_its_own_reason(
    policy: dict[str, Any], ticket: dict[str, Any], reason: Reason
) -> None:
    with pytest.raises(RemoteError) as error:
        replace(POLICY, **policy).check(replace(BASE, **ticket))
    assert error.value.reason is reason


@pytest.mark.parametrize(
    "policy",
    [
        {"min_cohort": 8},
        {"min_survivors": BASE.min_survivors},
        {"widths": (16,)},
        {"clips": (1.0, 1.0)},
        {"weight_caps": (100, 100)},
        {"weighted_by": ("batches", "num-examples")},
        {"weighted_by": ()},
        {"members": frozenset((*BASE.cohort, "peer-x"))},
        {"max_vector_bytes": 92},
        {"max_deadline_ms": 160_000},
    ],
)
def test_a_ticket_at_the_limit_is_followed(policy: dict[str, Any]) -> None:
    replace(POLICY, **policy).check(BASE)


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_cohort": 2},
        {"min_survivors": 2},
        {"modes": ()},
        {"modes": ("plain",)},
        {"min_difference": 1},
        {"tickets_per_hour": 0},
        {"max_configurations": 0},
    ],
)
def test_an_unsafe_policy_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(LocalError):
        Policy(**wrong)
