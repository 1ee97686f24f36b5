"""Tickets validate themselves, and no peer follows one beyond its own policy."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smpcfl.protocol.admission import Admission
from smpcfl.protocol.errors import LocalError, Reason, RemoteError
from smpcfl.protocol.policy import Policy
from smpcfl.protocol.summed_metrics import MetricNames
from smpcfl.protocol.ticket import (
    ADDITIVE,
    EVALUATE,
    HOUR_MS,
    MAX_COHORT,
    SEEDED,
    Deadlines,
    SignedTicket,
    Ticket,
    default_threshold,
    pack_bitmap,
    unpack_bitmap,
)
from support.network import keyring_of, make_ticket, peer_ids, sign

BASE = make_ticket(8).ticket
ME = BASE.cohort[3]
POLICY = Policy(modes=(SEEDED, ADDITIVE), min_cohort=3)
NOW_MS = 10**12


def refusal(error: pytest.ExceptionInfo[RemoteError]) -> Reason:
    return error.value.reason


# -- the ticket itself ------------------------------------------------------------------------------

OUT_OF_RANGE: list[tuple[str, Any]] = [
    ("version", 0),
    ("version", 3),
    ("run", -1),
    ("run", 2**64),
    ("round", -1),
    ("round", 2**32),
    ("serial", 0),
    ("serial", -1),
    ("serial", 2**63),
    ("nonce", bytes(31)),
    ("nonce", bytes(33)),
    ("mode", "normal"),
    ("mode", "plain"),
    ("mode", ""),
    ("cohort", peer_ids(2)),
    ("cohort", ()),
    ("cohort", tuple(reversed(peer_ids(8)))),
    ("cohort", (*peer_ids(7), "peer-00006")),
    ("cohort", ("", *peer_ids(7))),
    ("cohort", (*peer_ids(7), "q" * 65)),
    ("cohort", peer_ids(1025)),
    ("threshold", 0),
    ("threshold", 8),
    ("threshold", -1),
    ("width", 8),
    ("width", 0),
    ("width", 17),
    ("clip", 0.0),
    ("clip", -1.0),
    ("clip", math.nan),
    ("clip", math.inf),
    ("weight_cap", 0),
    ("weight_cap", 2**32),
    ("body", -1),
    ("body", 2**32),
    ("wide", -1),
    ("wide", 2**32),
    ("body", 2**30 + 1),
    ("min_survivors", 1),
    ("min_survivors", 0),
    ("min_survivors", 9),
    ("model_digest", bytes(31)),
    ("model_digest", b""),
    ("config_digest", bytes(33)),
    ("task", "query"),
    ("task", EVALUATE),  # with a model's entries in its vector
    ("weighted_by", ""),
    ("weighted_by", "n" * 65),
    ("metrics", MetricNames((("loss", 0),))),  # and no room for it
]


@pytest.mark.parametrize(("name", "value"), OUT_OF_RANGE)
def test_a_field_out_of_range_is_malformed(name: str, value: Any) -> None:
    with pytest.raises(RemoteError) as error:
        replace(BASE, **{name: value})
    assert refusal(error) is Reason.MALFORMED


def test_every_field_is_tried() -> None:
    assert {name for name, _ in OUT_OF_RANGE} | {"deadlines"} == set(Ticket.__dataclass_fields__)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("run", 2**64 - 1),
        ("round", 2**32 - 1),
        ("serial", 2**63 - 1),
        ("threshold", 7),
        ("weight_cap", 2**32 - 1),
        ("min_survivors", 8),
        ("min_survivors", 2),
        ("body", 0),
        ("clip", 1e-300),
        ("cohort", (*peer_ids(7), "q" * 64)),
        ("cohort", peer_ids(1024)),
    ],
)
def test_the_edges_of_the_range_are_good(name: str, value: Any) -> None:
    assert len(replace(BASE, **{name: value}).digest) == 32


def test_everyone_is_everyones_neighbour() -> None:
    assert BASE.degree == 7
    assert [sorted((i, *near)) for i, near in enumerate(BASE.neighbours)] == [[*range(8)]] * 8
    assert BASE.neighbours[3] == (0, 1, 2, 4, 5, 6, 7)


def test_a_cohort_that_16_bits_cannot_sum_needs_none_of_its_own() -> None:
    # MAX_COHORT is below 2^15, so every allowed cohort fits the narrowest ring.
    assert MAX_COHORT < 2**15 - 2


@pytest.mark.parametrize("wide", [0, 7])
def test_a_vector_without_room_for_the_trailer_is_malformed(wide: int) -> None:
    with pytest.raises(RemoteError):
        replace(BASE, wide=wide)


@pytest.mark.parametrize("name", ["aggregator", "registry"])
def test_a_cohort_with_the_name_of_a_role_is_malformed(name: str) -> None:
    with pytest.raises(RemoteError):
        replace(BASE, cohort=tuple(sorted((*peer_ids(7), name))))


@pytest.mark.parametrize("name", [n for n in Ticket.__dataclass_fields__ if n != "version"])
def test_the_digest_binds_every_field(name: str) -> None:
    changes: dict[str, Any] = {
        "run": 2,
        "round": 2,
        "serial": 2,
        "nonce": bytes(32),
        "mode": ADDITIVE,
        "cohort": (*peer_ids(7), "peer-x"),
        "threshold": 6,
        "width": 32,
        "clip": 2.0,
        "weight_cap": 101,
        "body": 11,
        "wide": 10,
        "task": EVALUATE,
        "weighted_by": "batches",
        "metrics": MetricNames((("loss", 0),)),
        "min_survivors": 7,
        "deadlines": Deadlines(exchange=20_001),
        "model_digest": b"\x01" * 32,
        "config_digest": b"\x01" * 32,
    }
    base = {"task": replace(BASE, body=0), "metrics": replace(BASE, wide=10)}.get(name, BASE)
    assert replace(base, **{name: changes[name]}).digest != base.digest


@pytest.mark.parametrize(
    "milliseconds",
    [
        (0, 2, 3, 4, 5, 6),
        (2, 1, 3, 4, 5, 6),
        (1, 2, 2, 4, 5, 6),
        (1, 2, 4, 4, 5, 6),
        (1, 2, 3, 4, 5, 86_400_000),
        (-1, 2, 3, 4, 5, 6),
    ],
)
def test_deadlines_out_of_order_are_refused(milliseconds: tuple[int, ...]) -> None:
    with pytest.raises(LocalError, match="deadlines"):
        Deadlines(*milliseconds)


def test_a_stranger_has_no_index() -> None:
    with pytest.raises(RemoteError) as error:
        BASE.index("stranger")
    assert refusal(error) is Reason.NOT_IN_COHORT


def test_a_peer_trains_from_ready_to_train_whenever_it_begins() -> None:
    """Less than the ticket would let it, so that it is a step at which uploads leave."""
    assert Deadlines(1, 20, 3000, 4000, 5000, 6000).training_ms == 2828


# -- policy -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", range(2, 41))
def test_two_thirds_of_the_degree_is_not_enough(k: int) -> None:
    cohort = peer_ids(k + 1)
    ticket = replace(BASE, cohort=cohort, threshold=default_threshold(k), min_survivors=3)
    POLICY.check(ticket)
    assert 3 * ticket.threshold > 2 * k >= 3 * (ticket.threshold - 1)
    if ticket.threshold > 1:
        with pytest.raises(RemoteError) as error:
            POLICY.check(replace(ticket, threshold=ticket.threshold - 1))
        assert refusal(error) is Reason.POLICY_THRESHOLD


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
    assert refusal(error) is reason


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


# -- admission --------------------------------------------------------------------------------------


def admit(
    signed: SignedTicket,
    *,
    me: str = ME,
    policy: Policy = POLICY,
    highest: int = 0,
    running: bytes | None = None,
) -> bool:
    admission = Admission(me, policy, keyring_of(signed.ticket.cohort))
    return admission.check(signed, highest_serial=highest, running=running, now_ms=NOW_MS)


def test_a_new_ticket_is_followed() -> None:
    assert admit(sign(replace(BASE, serial=NOW_MS)))


def test_the_running_ticket_may_come_again() -> None:
    signed = make_ticket(8, serial=5)
    assert not admit(signed, highest=5, running=signed.ticket.digest)


def test_a_ticket_of_a_closed_round_may_not() -> None:
    with pytest.raises(RemoteError) as error:
        admit(make_ticket(8, serial=5), highest=5, running=None)
    assert refusal(error) is Reason.STALE_SERIAL


@pytest.mark.parametrize("change", [{"clip": 2.0}, {"nonce": bytes(32)}, {"threshold": 6}])
def test_other_contents_under_the_running_serial_are_refused(change: dict[str, Any]) -> None:
    signed = make_ticket(8, serial=5)
    with pytest.raises(RemoteError) as error:
        admit(sign(replace(signed.ticket, **change)), highest=5, running=signed.ticket.digest)
    assert refusal(error) is Reason.STALE_SERIAL


@pytest.mark.parametrize("serial", [1, 6, 7])
def test_a_stale_serial_is_refused_and_the_highest_named(serial: int) -> None:
    with pytest.raises(RemoteError) as error:
        admit(make_ticket(8, serial=serial), highest=7)
    assert refusal(error) is Reason.STALE_SERIAL
    assert "> 7" in str(error.value)


@pytest.mark.parametrize(("ahead", "good"), [(HOUR_MS, True), (HOUR_MS + 1, False)])
def test_a_serial_may_be_an_hour_ahead(ahead: int, good: bool) -> None:
    signed = sign(replace(BASE, serial=NOW_MS + ahead))
    if good:
        assert admit(signed)
        return
    with pytest.raises(RemoteError) as error:
        admit(signed)
    assert refusal(error) is Reason.FUTURE_SERIAL
    assert f"<= {NOW_MS + HOUR_MS}, found {NOW_MS + ahead}" in str(error.value)


@pytest.mark.parametrize("name", [ME, "registry", "stranger"])
def test_only_the_aggregator_signs_tickets(name: str) -> None:
    with pytest.raises(RemoteError) as error:
        admit(sign(BASE, name))
    assert refusal(error) is Reason.BAD_SIGNATURE


def test_a_changed_ticket_under_an_old_signature_is_refused() -> None:
    signed = make_ticket(8, serial=9)
    with pytest.raises(RemoteError) as error:
        admit(replace(signed, ticket=replace(signed.ticket, clip=3.0)))
    assert refusal(error) is Reason.BAD_SIGNATURE


def test_a_peer_outside_the_cohort_takes_no_part() -> None:
    with pytest.raises(RemoteError) as error:
        admit(make_ticket(8), me="peer-99999")
    assert refusal(error) is Reason.NOT_IN_COHORT


def test_policy_is_asked() -> None:
    with pytest.raises(RemoteError) as error:
        admit(make_ticket(8), policy=replace(POLICY, min_cohort=9))
    assert refusal(error) is Reason.POLICY_COHORT


# -- bitmaps ----------------------------------------------------------------------------------------


@given(st.integers(1, 200), st.data())
def test_bitmap_round_trip(size: int, data: st.DataObject) -> None:
    members = tuple(sorted(data.draw(st.sets(st.integers(0, size - 1)))))
    assert unpack_bitmap(pack_bitmap(members, size), size) == members


@pytest.mark.parametrize(("raw", "size"), [(b"", 1), (b"\x00\x00", 8), (b"\x02", 1), (b"\x80", 7)])
def test_a_bitmap_of_another_size_is_malformed(raw: bytes, size: int) -> None:
    with pytest.raises(RemoteError) as error:
        unpack_bitmap(raw, size)
    assert refusal(error) is Reason.MALFORMED
    assert (error.value.expected, error.value.found) == (f"{size} bits", len(raw) * 8)


def test_a_clip_given_as_a_whole_number_is_signed_as_what_the_wire_carries() -> None:
    assert make_ticket(3, clip=2).ticket.digest == make_ticket(3, clip=2.0).ticket.digest
