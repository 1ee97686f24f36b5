"""Between the core's messages of ready and those of proto/: receipts, and the lists behind them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from smpc.v1 import messages_pb2 as pb

from ..protocol.announcement import Equivocation
from ..protocol.errors import Reason, RemoteError
from ..protocol.messages import Ready, ReadyReply
from ..protocol.receipts import KNOWN_BYTES, ListReply, ListRequest, Receipt
from ..protocol.ticket import MAX_COHORT, pack_bitmap, unpack_bitmap
from .wire import (
    announcement_from_proto,
    announcement_to_proto,
    at_most,
    optional_announcement,
    tag,
    whole,
)


def ready_to_proto(item: Ready) -> pb.Ready:
    return pb.Ready(
        ticket=tag(item.ticket_digest),
        receipt=None if item.receipt is None else _receipt_to_proto(item.receipt),
        counts=item.counts,
        has=item.has,
        have=None if item.have is None else _pack_numbers(item.have),
        proofs=[
            pb.Equivocation(
                one=announcement_to_proto(proof.one), other=announcement_to_proto(proof.other)
            )
            for proof in item.proofs
        ],
        announcement=None
        if item.announcement is None
        else announcement_to_proto(item.announcement),
        failure_share=item.failure_share,
    )


def ready_from_proto(message: pb.Ready, ticket_digest: bytes) -> Ready:
    digest = whole(message.ticket, ticket_digest)
    at_most(MAX_COHORT, "proofs", message.proofs)
    return Ready(
        digest,
        _receipt_from_proto(message.receipt) if message.HasField("receipt") else None,
        message.counts,
        message.has,
        _unpack_numbers(message.have) if message.HasField("have") else None,
        tuple(
            Equivocation(
                announcement_from_proto(proof.one, digest),
                announcement_from_proto(proof.other, digest),
            )
            for proof in message.proofs
        ),
        optional_announcement(message, digest),
        message.failure_share,
    )


def ready_reply_to_proto(item: ReadyReply) -> pb.ReadyReply:
    return pb.ReadyReply(
        receipt=None if item.receipt is None else _receipt_to_proto(item.receipt),
        counts=item.counts,
        closed=item.closed,
        relays=[_receipt_to_proto(receipt) for receipt in item.relays],
        announcement=None
        if item.announcement is None
        else announcement_to_proto(item.announcement),
        failure_share=item.failure_share,
    )


def ready_reply_from_proto(message: pb.ReadyReply, ticket_digest: bytes) -> ReadyReply:
    at_most(MAX_COHORT, "relays", message.relays)
    return ReadyReply(
        _receipt_from_proto(message.receipt) if message.HasField("receipt") else None,
        message.counts,
        message.closed,
        tuple(_receipt_from_proto(receipt) for receipt in message.relays),
        optional_announcement(message, ticket_digest),
        message.failure_share,
    )


def list_request_to_proto(item: ListRequest) -> pb.ListRequest:
    return pb.ListRequest(
        ticket=tag(item.ticket_digest),
        holder=item.holder,
        number=item.number,
        dealers=_pack(tuple(dealer for dealer, _ in item.known)),
        hashes=b"".join(found for _, found in item.known),
    )


def list_request_from_proto(message: pb.ListRequest, ticket_digest: bytes) -> ListRequest:
    digest, dealers, joined = (
        whole(message.ticket, ticket_digest),
        _unpack(message.dealers),
        message.hashes,
    )
    if len(joined) != KNOWN_BYTES * len(dealers):
        raise RemoteError(
            Reason.MALFORMED,
            "hashes of a list request",
            expected=f"{KNOWN_BYTES * len(dealers)} bytes",
            found=len(joined),
        )
    known = tuple(
        (dealer, joined[place * KNOWN_BYTES : (place + 1) * KNOWN_BYTES])
        for place, dealer in enumerate(dealers)
    )
    return ListRequest(digest, message.holder, message.number, known)


def list_reply_to_proto(item: ListReply) -> pb.ListReply:
    return pb.ListReply(announcements=[announcement_to_proto(a) for a in item.announcements])


def list_reply_from_proto(message: pb.ListReply, ticket_digest: bytes) -> ListReply:
    at_most(MAX_COHORT, "announcements", message.announcements)
    return ListReply(
        tuple(announcement_from_proto(a, ticket_digest) for a in message.announcements)
    )


def _receipt_to_proto(item: Receipt) -> pb.Receipt:
    return pb.Receipt(
        holder=item.holder,
        number=item.number,
        dealers=_pack(item.dealers),
        signature=item.signature,
    )


def _receipt_from_proto(message: pb.Receipt) -> Receipt:
    return Receipt(message.holder, message.number, _unpack(message.dealers), message.signature)


@lru_cache(maxsize=64)  # one receipt goes to all neighbours, and most are over the same dealers
def _pack(members: tuple[int, ...]) -> bytes:
    """A bitmap up to the last member: who writes it need not know the size of the cohort."""
    return pack_bitmap(members, 1 + max(members, default=-1))


def _unpack(raw: bytes) -> tuple[int, ...]:
    at_most(MAX_COHORT // 8, "bytes of a bitmap", raw)
    return unpack_bitmap(raw, 8 * len(raw))


def _pack_numbers(numbers: Sequence[tuple[int, int]]) -> bytes:
    """Two bits for each cohort index, up to the last one that has a number."""
    bits = sum(number << 2 * holder for holder, number in numbers)
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")


def _unpack_numbers(raw: bytes) -> tuple[tuple[int, int], ...]:
    at_most(MAX_COHORT // 4, "bytes of the receipts held", raw)
    bits = int.from_bytes(raw, "little")
    found = ((holder, bits >> 2 * holder & 3) for holder in range(4 * len(raw)))
    return tuple((holder, number) for holder, number in found if number)
