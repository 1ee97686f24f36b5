"""Receipts on the wire: what is sent arrives, in few bytes, and what is none is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smpc.v1 import messages_pb2 as pb
from smpcfl.net import ready_wire
from smpcfl.net.rpc import FRAME_BYTES
from smpcfl.protocol.announcement import Announcement, Equivocation
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.messages import Ready, ReadyReply
from smpcfl.protocol.receipts import KNOWN_BYTES, ListReply, ListRequest, Receipt
from smpcfl.protocol.ticket import MAX_COHORT

DIGEST, SIGNATURE = bytes(range(32)), bytes(64)
INDICES = st.integers(0, MAX_COHORT - 1)


def announced(dealer: int, commitment: int = 0) -> Announcement:
    return Announcement(DIGEST, dealer, bytes(32), bytes([commitment] * 32), bytes(16), SIGNATURE)


def receipts() -> Any:
    return st.builds(
        lambda holder, number, dealers: Receipt(
            holder, number, tuple(sorted({*dealers, holder})), SIGNATURE
        ),
        INDICES,
        st.integers(1, 3),
        st.sets(INDICES, max_size=9),
    )


def announcements() -> Any:
    return st.none() | st.builds(announced, INDICES)


@given(
    receipt=st.none() | receipts(),
    counts=st.booleans(),
    has=st.integers(0, 3),
    have=st.none()
    | st.dictionaries(INDICES, st.integers(1, 3), max_size=9).map(
        lambda d: tuple(sorted(d.items()))
    ),
    proofs=st.lists(
        st.builds(lambda i: Equivocation(announced(i), announced(i, 1)), INDICES), max_size=2
    ),
    announcement=announcements(),
    share=st.integers(0, 2**61 - 2),
)
def test_a_ready_arrives_as_it_was_sent(
    receipt: Any, counts: bool, has: int, have: Any, proofs: Any, announcement: Any, share: int
) -> None:
    sent = Ready(DIGEST, receipt, counts, has, have, tuple(proofs), announcement, share)
    raw = ready_wire.ready_to_proto(sent).SerializeToString()
    assert ready_wire.ready_from_proto(pb.Ready.FromString(raw), DIGEST) == sent


@given(
    receipt=st.none() | receipts(),
    counts=st.booleans(),
    closed=st.booleans(),
    relays=st.lists(receipts(), max_size=3),
    announcement=announcements(),
)
def test_a_reply_arrives_as_it_was_sent(
    receipt: Any, counts: bool, closed: bool, relays: Any, announcement: Any
) -> None:
    sent = ReadyReply(receipt, counts, closed, tuple(relays), announcement, 5)
    raw = ready_wire.ready_reply_to_proto(sent).SerializeToString()
    assert ready_wire.ready_reply_from_proto(pb.ReadyReply.FromString(raw), DIGEST) == sent


@given(
    holder=INDICES,
    number=st.integers(1, 3),
    known=st.dictionaries(
        INDICES, st.binary(min_size=KNOWN_BYTES, max_size=KNOWN_BYTES), max_size=9
    ),
)
def test_a_question_and_its_answer_arrive_as_they_were_sent(
    holder: int, number: int, known: dict[int, bytes]
) -> None:
    sent = ListRequest(DIGEST, holder, number, tuple(sorted(known.items())))
    raw = ready_wire.list_request_to_proto(sent).SerializeToString()
    assert ready_wire.list_request_from_proto(pb.ListRequest.FromString(raw), DIGEST) == sent
    reply = ListReply(tuple(announced(dealer) for dealer in known))
    answer = ready_wire.list_reply_to_proto(reply).SerializeToString()
    assert ready_wire.list_reply_from_proto(pb.ListReply.FromString(answer), DIGEST) == reply


@pytest.mark.parametrize(("peers", "most"), [(8, 92), (100, 105)])
def test_a_receipt_takes_a_bit_for_each_dealer_and_one_signature(peers: int, most: int) -> None:
    ready = Ready(DIGEST, Receipt(5, 1, tuple(range(peers)), SIGNATURE))
    assert ready_wire.ready_to_proto(ready).ByteSize() + FRAME_BYTES <= most


RECEIPT = pb.Receipt(holder=1, number=1, dealers=b"\x02", signature=SIGNATURE)
TAG = DIGEST[:8]
BAD: dict[str, pb.Ready] = {
    "a bitmap beyond any cohort": pb.Ready(
        ticket=TAG,
        receipt=pb.Receipt(holder=1, number=1, dealers=bytes(129), signature=SIGNATURE),
    ),
    "numbers beyond any cohort": pb.Ready(ticket=TAG, have=bytes(257)),
    "ten thousand proofs": pb.Ready(ticket=TAG, proofs=[pb.Equivocation()] * 10_000),
    "a receipt of nothing": pb.Ready(ticket=TAG, receipt=pb.Receipt()),
}


@pytest.mark.parametrize("name", BAD)
def test_what_nobody_honest_sends_is_malformed(name: str) -> None:
    with pytest.raises(RemoteError) as error:
        ready_wire.ready_from_proto(BAD[name], DIGEST)
    assert error.value.reason is Reason.MALFORMED


def test_relays_and_lists_have_a_bound() -> None:
    many = MAX_COHORT + 1
    with pytest.raises(RemoteError):
        ready_wire.ready_reply_from_proto(pb.ReadyReply(relays=[RECEIPT] * many), DIGEST)
    with pytest.raises(RemoteError):
        ready_wire.list_reply_from_proto(
            pb.ListReply(announcements=[pb.Announcement()] * many), DIGEST
        )


def test_messages_of_another_ticket_are_refused() -> None:
    other = bytes(32)
    for read, message in (
        (ready_wire.ready_from_proto, pb.Ready(ticket=TAG)),
        (ready_wire.list_request_from_proto, pb.ListRequest(ticket=TAG)),
    ):
        with pytest.raises(RemoteError) as error:
            read(message, other)  # type: ignore[operator]
        assert error.value.reason is Reason.UNKNOWN_TICKET
