"""Tickets validate themselves, and the digest binds every field."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smpcfl.protocol.errors import LocalError, Reason, RemoteError
from smpcfl.protocol.summed_metrics import MetricNames
from smpcfl.protocol.ticket import (
    ADDITIVE,
    EVALUATE,
    MAX_COHORT,
    Deadlines,
    Ticket,
    pack_bitmap,
    unpack_bitmap,
)
from support.network import make_ticket, peer_ids

BASE = make_ticket(8).ticket


def refusal(error: pytest.ExceptionInfo[RemoteError]) -> Reason:
    return error.value.reason


OUT_OF_RANGE: list[tuple[str, Any]] = [
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
    ("width", 4),
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
    ("arrays", ("b", "a")),
    ("arrays", ("a", "a")),
    ("arrays", ("",)),
    ("arrays", ("a" * 257,)),
    ("arrays", tuple(f"a{i:04}" for i in range(4097))),
    ("draw", 7),  # and no group of it
    ("group", 1),  # of no draw
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
    known = {name for name, _ in OUT_OF_RANGE} | {"deadlines", "version"}
    assert known == set(Ticket.__dataclass_fields__)


@pytest.mark.parametrize("version", [0, 1, 3, 2**32 - 1])
def test_another_version_is_named_whatever_else_the_ticket_says(version: int) -> None:
    with pytest.raises(RemoteError, match=f"expected 2, found {version}$") as error:
        replace(BASE, version=version, mode="another", cohort=(), nonce=b"", clip=0.0)
    assert refusal(error) is Reason.OTHER_PROTOCOL


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
        ("clip", 1e-100),
        ("cohort", (*peer_ids(7), "q" * 64)),
        ("cohort", peer_ids(1024)),
        ("arrays", ("a" * 256,)),
        ("arrays", tuple(f"a{i:04}" for i in range(4096))),
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
        "arrays": ("lora_a",),
        "min_survivors": 7,
        "deadlines": Deadlines(exchange=20_001),
        "model_digest": b"\x01" * 32,
        "config_digest": b"\x01" * 32,
        "draw": 8,
        "group": 2,
    }
    base = {
        "task": replace(BASE, body=0),
        "metrics": replace(BASE, wide=10),
        "draw": replace(BASE, draw=7, group=1),
        "group": replace(BASE, draw=7, group=1),
    }.get(name, BASE)
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
