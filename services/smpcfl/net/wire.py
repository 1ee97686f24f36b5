"""Between the core's messages and those of proto/. Fields have the same names on both sides."""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import Any, TypeVar

from smpc.v1 import messages_pb2 as pb

from .. import __version__
from ..protocol.announcement import Announcement, Dealt
from ..protocol.encoding import VERSION
from ..protocol.errors import LocalError, Reason, RemoteError
from ..protocol.keystream import Secret
from ..protocol.merkle import NODE_BYTES
from ..protocol.messages import (
    Agreement,
    Answer,
    Exchange,
    Header,
    ShownShare,
    Survivors,
    Upload,
)
from ..protocol.summed_metrics import MOST_NUMBERS, MetricNames
from ..protocol.ticket import (
    MAX_ARRAYS,
    MAX_COHORT,
    Deadlines,
    SignedTicket,
    Ticket,
    pack_bitmap,
    unpack_bitmap,
)

T = TypeVar("T")
TAG_BYTES = 8


def tag(ticket_digest: bytes) -> bytes:
    """Finds the round. It proves nothing: what is signed binds the whole digest."""
    return ticket_digest[:TAG_BYTES]


def whole(found: bytes, ticket_digest: bytes) -> bytes:
    """The digest that `found` is the tag of; RemoteError(UNKNOWN_TICKET) if it is another's."""
    if found != tag(ticket_digest):
        raise RemoteError(Reason.UNKNOWN_TICKET)
    return ticket_digest


def ticket_to_proto(signed: SignedTicket) -> pb.SignedTicket:
    ticket = signed.ticket
    plain = {
        name.name: getattr(ticket, name.name)
        for name in pb.Ticket.DESCRIPTOR.fields
        if name.name not in ("deadlines", "cohort", "metrics", "arrays")
    }
    deadlines = pb.Deadlines(
        **{
            field.name: getattr(ticket.deadlines, field.name)
            for field in pb.Deadlines.DESCRIPTOR.fields
        }
    )
    named = [pb.Metric(name=name, length=length) for name, length in ticket.metrics.named]
    metrics = pb.Metrics(named=named, open=ticket.metrics.open)
    message = pb.Ticket(
        **plain,
        cohort=ticket.cohort,
        deadlines=deadlines,
        metrics=metrics,
        arrays=ticket.arrays,
    )
    return pb.SignedTicket(ticket=message, signature=signed.signature)


def check_version(message: pb.SignedTicket) -> None:
    """RemoteError(OTHER_PROTOCOL) for a ticket of another version, whatever else is in it."""
    found = message.ticket.version
    if found == 0:  # as of a message without a ticket
        raise RemoteError(Reason.MALFORMED, "a ticket without a version")
    if found != VERSION:
        older = "this peer" if found > VERSION else "the aggregator"
        raise RemoteError(
            Reason.OTHER_PROTOCOL,
            f"this ticket is of protocol version {found}, this peer (smpcfl {__version__}) speaks {VERSION}:"
            f" upgrade {older}",
        )


def ticket_from_proto(message: pb.SignedTicket) -> SignedTicket:
    """RemoteError(OTHER_PROTOCOL), or RemoteError(MALFORMED) for values out of range."""
    check_version(message)
    source = message.ticket
    values: dict[str, Any] = {
        field.name: getattr(source, field.name) for field in pb.Ticket.DESCRIPTOR.fields
    }
    at_most(MAX_COHORT, "cohort", source.cohort)
    values["cohort"] = tuple(source.cohort)
    at_most(MAX_ARRAYS, "arrays", source.arrays)
    values["arrays"] = tuple(source.arrays)
    at_most(MOST_NUMBERS, "metrics", source.metrics.named)
    named = tuple((item.name, item.length) for item in source.metrics.named)
    values["metrics"] = MetricNames(named, source.metrics.open)
    try:
        values["deadlines"] = Deadlines(
            **{f.name: getattr(source.deadlines, f.name) for f in pb.Deadlines.DESCRIPTOR.fields}
        )
        return SignedTicket(Ticket(**values), message.signature)
    except LocalError as error:
        raise RemoteError(Reason.MALFORMED, f"ticket: {error}") from error


def announcement_to_proto(item: Announcement) -> pb.Announcement:
    return _to(pb.Announcement, item)


def announcement_from_proto(message: pb.Announcement, ticket_digest: bytes) -> Announcement:
    return Announcement(
        ticket_digest,
        message.dealer,
        message.public_key,
        message.commitment,
        message.shares_root,
        message.signature,
    )


def optional_announcement(message: Any, ticket_digest: bytes) -> Announcement | None:
    """Of a message that may have one; None if it has not."""
    if not message.HasField("announcement"):
        return None
    return announcement_from_proto(message.announcement, ticket_digest)


def exchange_to_proto(item: Exchange) -> pb.Exchange:
    return pb.Exchange(
        ticket=tag(item.ticket_digest),
        announcement=announcement_to_proto(item.announcement),
        dealt=pb.Dealt(
            self_share=item.dealt.self_share,
            pair_share=item.dealt.pair_share,
            path=b"".join(item.dealt.path),
            failure_share=item.dealt.failure_share,
        ),
    )


def exchange_from_proto(message: pb.Exchange, ticket_digest: bytes) -> Exchange:
    announcement = announcement_from_proto(
        message.announcement, whole(message.ticket, ticket_digest)
    )
    dealt = Dealt(
        Secret(message.dealt.self_share),
        Secret(message.dealt.pair_share),
        _nodes(message.dealt.path),
        message.dealt.failure_share,
    )
    return Exchange(announcement, dealt)


def agreement_to_proto(item: Agreement) -> pb.Agreement:
    return pb.Agreement(
        ticket=tag(item.ticket_digest),
        survivors_digest=item.survivors_digest,
        peer=item.peer,
        signature=item.signature,
        failure_sum=item.failure_sum,
        earlier=item.earlier,
    )


def agreement_from_proto(message: pb.Agreement, ticket_digest: bytes) -> Agreement:
    return Agreement(
        whole(message.ticket, ticket_digest),
        message.survivors_digest,
        message.peer,
        message.signature,
        message.failure_sum if message.HasField("failure_sum") else None,
        message.earlier,
    )


def header_to_proto(item: Header) -> pb.Header:
    return pb.Header(
        ticket_digest=item.ticket_digest,
        sender=item.sender,
        announcement_hash=item.announcement_hash,
        counting=_counting(dict(item.counting)),
        signature=item.signature,
        masked_failure=item.masked_failure,
    )


def header_from_proto(message: pb.Header) -> Header:
    return Header(
        message.ticket_digest,
        message.sender,
        message.announcement_hash,
        tuple((c.index, c.announcement_hash) for c in message.counting),
        message.signature,
        message.masked_failure,
    )


def upload_meta_to_proto(header: Header, announcement: Announcement | None) -> pb.UploadMeta:
    return pb.UploadMeta(
        header=header_to_proto(header),
        announcement=None if announcement is None else announcement_to_proto(announcement),
    )


def upload_from(meta: bytes, vector: bytes) -> Upload:
    """An upload from a serialised UploadMeta and the vector's bytes; RemoteError(MALFORMED)."""
    message = parse(pb.UploadMeta, meta)
    header = header_from_proto(message.header)
    return Upload(header, optional_announcement(message, header.ticket_digest), vector)


def survivors_to_proto(item: Survivors, ticket: Ticket) -> pb.Survivors:
    """Compact: each announcement hash stands once. A change on the way makes the signatures fail."""
    size = len(ticket.cohort)
    named = {header.sender for header in item.headers}
    others = {j: h for header in item.headers for j, h in header.counting if j not in named}
    return pb.Survivors(
        ticket_digest=item.ticket_digest,
        survivors=pack_bitmap(item.survivors, size),
        headers=[
            pb.CompactHeader(
                sender=header.sender,
                announcement_hash=header.announcement_hash,
                counting=pack_bitmap(tuple(header.counts), size),
                signature=header.signature,
                masked_failure=header.masked_failure,
            )
            for header in item.headers
        ],
        others=_counting(others),
        headers_digest=item.headers_digest,
        signature=item.signature,
    )


def survivors_from_proto(message: pb.Survivors, ticket: Ticket) -> Survivors:
    size = len(ticket.cohort)
    at_most(size, "headers", message.headers)
    at_most(size, "announcement hashes", message.others)
    hashes = {c.index: c.announcement_hash for c in message.others}
    hashes |= {header.sender: header.announcement_hash for header in message.headers}
    headers = []
    for header in message.headers:
        counting = unpack_bitmap(header.counting, size)
        if not hashes.keys() >= set(counting):
            raise RemoteError(Reason.BAD_HEADER, "announcement hash missing")
        headers.append(
            Header(
                message.ticket_digest,
                header.sender,
                header.announcement_hash,
                tuple((index, hashes[index]) for index in counting),
                header.signature,
                header.masked_failure,
            )
        )
    return Survivors(
        message.ticket_digest,
        unpack_bitmap(message.survivors, size),
        tuple(headers),
        message.headers_digest,
        message.signature,
    )


def answer_to_proto(item: Answer) -> pb.Answer:
    return pb.Answer(
        ticket_digest=item.ticket_digest,
        holder=item.holder,
        self_shares=[_shown(share) for share in item.self_shares],
        pair_shares=[_shown(share) for share in item.pair_shares],
        announcements=[announcement_to_proto(a) for a in item.announcements],
    )


def answer_from_proto(message: pb.Answer) -> Answer:
    def shares(found: Any) -> tuple[ShownShare, ...]:
        at_most(MAX_COHORT, "shares", found)
        return tuple(
            ShownShare(s.dealer, Secret(s.share), s.sibling, _nodes(s.path)) for s in found
        )

    at_most(MAX_COHORT, "announcements", message.announcements)
    return Answer(
        message.ticket_digest,
        message.holder,
        shares(message.self_shares),
        shares(message.pair_shares),
        tuple(announcement_from_proto(a, message.ticket_digest) for a in message.announcements),
    )


def parse(kind: Callable[[], T], raw: bytes) -> T:
    """A protobuf message from bytes; RemoteError(MALFORMED) if they are none."""
    message = kind()
    try:
        message.ParseFromString(raw)  # type: ignore[attr-defined]
    except Exception as error:
        raise RemoteError(Reason.MALFORMED, str(error)) from error
    return message


def at_most(bound: int, what: str, items: Sized) -> None:
    """Before anything is made of them: an item takes more room in memory than on the wire."""
    if len(items) > bound:
        raise RemoteError(Reason.MALFORMED, what, expected=f"<= {bound}", found=len(items))


def _shown(share: ShownShare) -> pb.ShownShare:
    path = b"".join(share.path)
    return pb.ShownShare(dealer=share.dealer, share=share.share, sibling=share.sibling, path=path)


def _nodes(joined: bytes) -> tuple[bytes, ...]:
    """Of a path; what is no whole number of nodes is refused with the last one's length."""
    return tuple(joined[at : at + NODE_BYTES] for at in range(0, len(joined), NODE_BYTES))


def _counting(hashes: dict[int, bytes]) -> list[pb.Counting]:
    return [pb.Counting(index=i, announcement_hash=h) for i, h in sorted(hashes.items())]


def _to(kind: Any, item: object) -> Any:
    return kind(**{field.name: getattr(item, field.name) for field in kind.DESCRIPTOR.fields})
