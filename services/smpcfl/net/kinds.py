"""The calls between peers: one literal table, by the kind of message that a call carries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from smpc.v1 import messages_pb2 as pb
from smpc.v1 import peer_pb2

from ..protocol.messages import AdditiveShare, Agreement, Exchange, Ready
from ..protocol.receipts import ListRequest
from ..protocol.ticket import SignedTicket
from . import ready_wire, rpc, wire


@dataclass(frozen=True)
class Codec:
    """Between a message of the core and its protobuf type.

    `read` also takes the digest of the round's ticket, of which messages carry no more than a tag.
    It raises RemoteError for values out of range, or of another ticket.
    """

    proto: Any
    write: Callable[[Any], Any]
    read: Callable[[Any, bytes], Any]


def _share_chunks(share: AdditiveShare) -> Iterator[peer_pb2.ShareChunk]:
    digest = share.ticket_digest
    for piece in rpc.pieces(share.vector):
        yield peer_pb2.ShareChunk(ticket_digest=digest, data=piece)
        digest = b""


def _share_of(chunks: Iterable[peer_pb2.ShareChunk], ticket_digest: bytes) -> AdditiveShare:
    return AdditiveShare(ticket_digest, b"".join(chunk.data for chunk in chunks))


_TICKET = Codec(
    pb.SignedTicket, wire.ticket_to_proto, lambda message, _: wire.ticket_from_proto(message)
)
_EXCHANGE = Codec(pb.Exchange, wire.exchange_to_proto, wire.exchange_from_proto)
_READY = Codec(pb.Ready, ready_wire.ready_to_proto, ready_wire.ready_from_proto)
_READY_REPLY = Codec(
    pb.ReadyReply, ready_wire.ready_reply_to_proto, ready_wire.ready_reply_from_proto
)
_LIST = Codec(pb.ListRequest, ready_wire.list_request_to_proto, ready_wire.list_request_from_proto)
_LIST_REPLY = Codec(pb.ListReply, ready_wire.list_reply_to_proto, ready_wire.list_reply_from_proto)
_AGREEMENT = Codec(pb.Agreement, wire.agreement_to_proto, wire.agreement_from_proto)
_SHARE = Codec(peer_pb2.ShareChunk, _share_chunks, _share_of)
_NOTHING = Codec(peer_pb2.Empty, lambda _: peer_pb2.Empty(), lambda *_: None)


@dataclass(frozen=True)
class Kind:
    """One gRPC method between peers.

    `ticket` finds in a request the digest or the tag of the ticket that it belongs to. With `streams` the
    request is many protobuf messages: `request` writes and reads all of them. With `relayed` the
    aggregator may call it as well.
    """

    method: str
    request: Codec
    reply: Codec = _NOTHING
    ticket: Callable[[Any], bytes] = lambda message: message.ticket
    streams: bool = False
    relayed: bool = False

    def requests(self, message: Any) -> Iterable[Any]:
        """The protobuf messages that a call takes: one, unless it streams."""
        written = self.request.write(message)
        return written if self.streams else (written,)

    def size(self, message: Any) -> int:
        """Bytes of a call's request, with gRPC's frame of each message, without TLS."""
        return sum(rpc.size(part) for part in self.requests(message))


KINDS: dict[type, Kind] = {
    SignedTicket: Kind("Offer", _TICKET),
    Exchange: Kind("Exchange", _EXCHANGE, _EXCHANGE),
    Ready: Kind("Ready", _READY, _READY_REPLY),
    ListRequest: Kind("List", _LIST, _LIST_REPLY),
    Agreement: Kind("Agree", _AGREEMENT, relayed=True),
    AdditiveShare: Kind("Share", _SHARE, ticket=lambda chunk: chunk.ticket_digest, streams=True),
}
