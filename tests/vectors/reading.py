"""From what stands in the files to values and messages, for the tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from smpc.v1 import messages_pb2 as pb
from smpcfl.net import ready_wire, wire
from smpcfl.protocol import announcement as announcements
from smpcfl.protocol import messages
from smpcfl.protocol.announcement import Equivocation
from smpcfl.protocol.errors import LocalError, RemoteError
from smpcfl.protocol.keystream import Secret
from smpcfl.protocol.quantise import Quantiser
from smpcfl.protocol.receipts import ListReply, ListRequest, Receipt
from smpcfl.protocol.ring import Layout
from smpcfl.protocol.signing import KeyTable
from smpcfl.protocol.summed_metrics import MetricNames
from smpcfl.protocol.ticket import SignedTicket, Ticket
from vectors.files import LOCAL, Json, load, named

raw = bytes.fromhex
real = float.fromhex


def whole(value: int | str) -> int:
    return int(value)


def raws(values: list[str]) -> list[bytes]:
    return [raw(value) for value in values]


def refuses(reason: str, call: Callable[[], object]) -> None:
    """`call` is refused, and for this very reason."""
    with pytest.raises((LocalError, RemoteError)) as caught:
        call()
    found = caught.value
    assert (found.reason.value if isinstance(found, RemoteError) else LOCAL) == reason


def layout(given: Json) -> Layout:
    return Layout(given["width"], given["body"], given["wide"])


def quantiser(given: Json) -> Quantiser:
    return Quantiser(given["width"], real(given["clip"]), given["weight_cap"], given["cohort"])


def metrics(given: Json) -> MetricNames:
    return MetricNames(tuple((name, length) for name, length in given["named"]), given["open"])


def reported(given: Json) -> dict[str, Any]:
    """What an app reports, by name."""
    return {
        name: [real(item) for item in value] if isinstance(value, list) else real(value)
        for name, value in given.items()
    }


def arrays(given: list[Json]) -> dict[str, np.ndarray]:
    return {
        item["name"]: np.frombuffer(raw(item["bytes"]), item["dtype"]).reshape(item["shape"])
        for item in given
    }


def tape(entropy: str) -> Callable[[int], bytes]:
    left = bytearray(raw(entropy))

    def draw(count: int) -> bytes:
        assert len(left) >= count
        found = bytes(left[:count])
        del left[:count]
        return found

    return draw


def private_key(scalar: str) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int(scalar, 16), ec.SECP256R1())


def key_of(name: str) -> ec.EllipticCurvePrivateKey:
    return private_key(named("signing", name)["input"]["private"])


def keyring() -> KeyTable:
    points = {
        item["name"]: raw(item["output"]["public"])
        for item in load("signing")["vectors"]
        if item["op"] == "key"
    }
    return KeyTable({name: public_key(point) for name, point in points.items()})


def public_key(point: bytes) -> ec.EllipticCurvePublicKey:
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)


def ticket_fields(name: str) -> Json:
    return named("ticket", name)["input"]["fields"]


def ticket_of(fields: Json, signature: str = "") -> SignedTicket:
    """As it comes from the wire, so that what no message can hold is no input."""
    plain = {
        name: raw(value) if name in ("nonce", "model_digest", "config_digest") else value
        for name, value in fields.items()
    }
    plain |= {name: int(fields[name]) for name in ("run", "serial")}
    plain |= {"clip": real(fields["clip"]), "deadlines": pb.Deadlines(**fields["deadlines"])}
    named_ = [pb.Metric(name=name, length=length) for name, length in fields["metrics"]["named"]]
    plain |= {"metrics": pb.Metrics(named=named_, open=fields["metrics"]["open"])}
    return wire.ticket_from_proto(
        pb.SignedTicket(ticket=pb.Ticket(**plain), signature=raw(signature))
    )


def ticket(name: str) -> Ticket:
    return ticket_of(ticket_fields(name)).ticket


# -- messages -------------------------------------------------------------------------------------------


def announcement(fields: Json) -> announcements.Announcement:
    return announcements.Announcement(
        ticket_digest=raw(fields["ticket_digest"]),
        dealer=fields["dealer"],
        public_key=raw(fields["public_key"]),
        commitment=raw(fields["commitment"]),
        shares_root=raw(fields["shares_root"]),
        signature=raw(fields["signature"]),
    )


def dealt(fields: Json) -> announcements.Dealt:
    return announcements.Dealt(
        self_share=Secret(raw(fields["self_share"])),
        pair_share=Secret(raw(fields["pair_share"])),
        path=tuple(raws(fields["path"])),
        failure_share=whole(fields["failure_share"]),
    )


def header(fields: Json) -> messages.Header:
    return messages.Header(
        ticket_digest=raw(fields["ticket_digest"]),
        sender=fields["sender"],
        announcement_hash=raw(fields["announcement_hash"]),
        counting=tuple((index, raw(found)) for index, found in fields["counting"]),
        signature=raw(fields["signature"]),
        masked_failure=whole(fields["masked_failure"]),
    )


def receipt(fields: Json) -> Receipt:
    return Receipt(
        fields["holder"], fields["number"], tuple(fields["dealers"]), raw(fields["signature"])
    )


def _introduction(fields: Json) -> Json:
    found = fields["announcement"]
    return {
        "announcement": None if found is None else announcement(found),
        "failure_share": whole(fields["failure_share"]),
    }


def ready(fields: Json) -> messages.Ready:
    found, have = fields["receipt"], fields["have"]
    return messages.Ready(
        ticket_digest=raw(fields["ticket_digest"]),
        receipt=None if found is None else receipt(found),
        counts=fields["counts"],
        has=fields["has"],
        have=None if have is None else tuple((holder, number) for holder, number in have),
        proofs=tuple(
            Equivocation(announcement(item["one"]), announcement(item["other"]))
            for item in fields["proofs"]
        ),
        **_introduction(fields),
    )


def ready_reply(fields: Json) -> messages.ReadyReply:
    found = fields["receipt"]
    return messages.ReadyReply(
        receipt=None if found is None else receipt(found),
        counts=fields["counts"],
        closed=fields["closed"],
        relays=tuple(receipt(item) for item in fields["relays"]),
        **_introduction(fields),
    )


def list_request(fields: Json) -> ListRequest:
    known = tuple((dealer, raw(found)) for dealer, found in fields["known"])
    return ListRequest(raw(fields["ticket_digest"]), fields["holder"], fields["number"], known)


def list_reply(fields: Json) -> ListReply:
    return ListReply(tuple(announcement(item) for item in fields["announcements"]))


def survivors(fields: Json) -> messages.Survivors:
    return messages.Survivors(
        ticket_digest=raw(fields["ticket_digest"]),
        survivors=tuple(fields["survivors"]),
        headers=tuple(header(item) for item in fields["headers"]),
        headers_digest=raw(fields["headers_digest"]),
        signature=raw(fields["signature"]),
    )


def agreement(fields: Json) -> messages.Agreement:
    total = fields["failure_sum"]
    return messages.Agreement(
        ticket_digest=raw(fields["ticket_digest"]),
        survivors_digest=raw(fields["survivors_digest"]),
        peer=fields["peer"],
        signature=raw(fields["signature"]),
        failure_sum=None if total is None else whole(total),
        earlier=raw(fields["earlier"]),
    )


def shown(fields: Json) -> messages.ShownShare:
    return messages.ShownShare(
        dealer=fields["dealer"],
        share=Secret(raw(fields["share"])),
        sibling=raw(fields["sibling"]),
        path=tuple(raws(fields["path"])),
    )


def answer(fields: Json) -> messages.Answer:
    return messages.Answer(
        ticket_digest=raw(fields["ticket_digest"]),
        holder=fields["holder"],
        self_shares=tuple(shown(item) for item in fields["self_shares"]),
        pair_shares=tuple(shown(item) for item in fields["pair_shares"]),
        announcements=tuple(announcement(item) for item in fields["announcements"]),
    )


def exchange(fields: Json) -> messages.Exchange:
    return messages.Exchange(announcement(fields["announcement"]), dealt(fields["dealt"]))


# Kind: how it is read from a file, sent, and received by someone who has the ticket.
Wire = tuple[Callable[[Json], Any], Callable[[Any], Any], Callable[[bytes, Ticket], Any]]
KINDS: dict[str, Wire] = {
    "Announcement": (
        announcement,
        wire.announcement_to_proto,
        lambda data, t: wire.announcement_from_proto(wire.parse(pb.Announcement, data), t.digest),
    ),
    "Exchange": (
        exchange,
        wire.exchange_to_proto,
        lambda data, t: wire.exchange_from_proto(wire.parse(pb.Exchange, data), t.digest),
    ),
    "Ready": (
        ready,
        ready_wire.ready_to_proto,
        lambda data, t: ready_wire.ready_from_proto(wire.parse(pb.Ready, data), t.digest),
    ),
    "ReadyReply": (
        ready_reply,
        ready_wire.ready_reply_to_proto,
        lambda data, t: ready_wire.ready_reply_from_proto(
            wire.parse(pb.ReadyReply, data), t.digest
        ),
    ),
    "ListRequest": (
        list_request,
        ready_wire.list_request_to_proto,
        lambda data, t: ready_wire.list_request_from_proto(
            wire.parse(pb.ListRequest, data), t.digest
        ),
    ),
    "ListReply": (
        list_reply,
        ready_wire.list_reply_to_proto,
        lambda data, t: ready_wire.list_reply_from_proto(wire.parse(pb.ListReply, data), t.digest),
    ),
    "Header": (
        header,
        wire.header_to_proto,
        lambda data, _: wire.header_from_proto(wire.parse(pb.Header, data)),
    ),
    "Survivors": (
        survivors,
        lambda item: wire.survivors_to_proto(item, ticket("five peers")),
        lambda data, t: wire.survivors_from_proto(wire.parse(pb.Survivors, data), t),
    ),
    "Agreement": (
        agreement,
        wire.agreement_to_proto,
        lambda data, t: wire.agreement_from_proto(wire.parse(pb.Agreement, data), t.digest),
    ),
    "Answer": (
        answer,
        wire.answer_to_proto,
        lambda data, _: wire.answer_from_proto(wire.parse(pb.Answer, data)),
    ),
}
