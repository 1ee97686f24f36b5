"""Known answers of the messages of a round, and of the survivor set."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from smpc.v1 import messages_pb2 as pb
from smpcfl.net import wire
from smpcfl.net.node_proof import node_bytes
from smpcfl.protocol.announcement import Announcement, Dealt, confirmation_bytes
from smpcfl.protocol.keystream import Secret
from smpcfl.protocol.ledger import set_digest
from smpcfl.protocol.messages import (
    Acknowledge,
    Agreement,
    Answer,
    Confirmation,
    Exchange,
    Header,
    Ready,
    ReadyReply,
    ShownShare,
    agreement_bytes,
    headers_digest,
    survivors_bytes,
)
from vectors.files import Json, case, number, refused, topic
from vectors.given import message_json, some
from vectors.make_survivors import HASHES, TICKET, survivors_of


def _announcement() -> Announcement:
    parts = some("public key", 32), some("commitment", 32), some("root", 16)
    return Announcement(TICKET.digest, 2, *parts, some("announcement signature", 64))


def _header() -> Header:
    counting = tuple((j, HASHES[j]) for j in (0, 2, 4))
    signature = some("header signature", 64)
    return Header(TICKET.digest, 1, HASHES[1], counting, signature, 2**61 - 2)


def _shown(dealer: int) -> ShownShare:
    path = (some("path 0", 16), some("path 1", 16))
    return ShownShare(dealer, Secret(some(f"shown {dealer}", 33)), some("sibling", 32), path)


def _messages() -> list[tuple[str, Any, Any]]:
    """Name, message, and the same for the wire."""
    announcement, header = _announcement(), _header()
    dealt = Dealt(
        Secret(some("self share", 33)),
        Secret(some("pair share", 33)),
        (some("path 0", 16), some("path 1", 16)),
        2**60 + 1,
    )
    confirmation = some("confirmation", 64)
    ready = Ready(
        TICKET.digest,
        tuple(Confirmation(j, some(f"confirmation {j}", 64)) for j in (0, 3)),
        announcement,
    )
    bare = replace(ready, announcement=None)
    request, reply = Exchange(announcement, dealt), Exchange(announcement, dealt, confirmation)
    answer = Answer(TICKET.digest, 3, (_shown(0), _shown(1)), (_shown(2),), (announcement,))
    acknowledge = Acknowledge(TICKET.digest, confirmation)
    counted = ReadyReply(True, bare)
    one = Agreement(TICKET.digest, some("survivors", 32), 4, some("agreement", 64), 2**61 - 2)
    other, zero = replace(one, failure_sum=None), replace(one, failure_sum=0)
    second = replace(one, earlier=set_digest(TICKET.cohort))
    survivors = survivors_of()
    return [
        ("an announcement", announcement, wire.announcement_to_proto(announcement)),
        ("an exchange, the request", request, wire.exchange_to_proto(request)),
        ("an exchange, the reply", reply, wire.exchange_to_proto(reply)),
        ("an acknowledge", acknowledge, wire.acknowledge_to_proto(acknowledge)),
        ("a ready with its announcement", ready, wire.ready_to_proto(ready)),
        ("a ready without", bare, wire.ready_to_proto(bare)),
        ("a reply with a ready", counted, wire.ready_reply_to_proto(counted)),
        ("a reply without", ReadyReply(False), wire.ready_reply_to_proto(ReadyReply(False))),
        ("a header", header, wire.header_to_proto(header)),
        ("survivors", survivors, wire.survivors_to_proto(survivors, TICKET)),
        ("an agreement", one, wire.agreement_to_proto(one)),
        ("an agreement without a sum", other, wire.agreement_to_proto(other)),
        ("an agreement with a sum of zero", zero, wire.agreement_to_proto(zero)),
        ("an agreement to a second set", second, wire.agreement_to_proto(second)),
        ("an answer", answer, wire.answer_to_proto(answer)),
    ]


def messages() -> Json:
    vectors = []
    for name, item, proto in _messages():
        raw = proto.SerializeToString(deterministic=True)
        given = {"kind": type(item).__name__, "fields": message_json(item)}
        vectors.append(case("message", name, given, {"wire": raw.hex()}))
    announcement, header = _announcement(), _header()
    meta = wire.upload_meta_to_proto(header, announcement).SerializeToString(deterministic=True)
    given = {"header": message_json(header), "announcement": message_json(announcement)}
    vectors.append(case("upload", "a header and an announcement", given, {"wire": meta.hex()}))
    digest = some("survivors", 32)
    for name, given, raw in (
        ("header", message_json(header), header.signed_bytes),
        (
            "confirmation",
            {"announcement_hash": HASHES[0].hex(), "holder": 3},
            confirmation_bytes(HASHES[0], 3),
        ),
        (
            "agreement",
            _agreed(digest, 5),
            agreement_bytes(TICKET.digest, digest, 4, 5),
        ),
        (
            "agreement",
            _agreed(digest, None),
            agreement_bytes(TICKET.digest, digest, 4, None),
        ),
        (
            "agreement, to a second set",
            _agreed(digest, 5, set_digest(TICKET.cohort)),
            agreement_bytes(TICKET.digest, digest, 4, 5, set_digest(TICKET.cohort)),
        ),
        (
            "survivors",
            {"ticket": "five peers", "survivors": [0, 1, 3], "headers_digest": digest.hex()},
            survivors_bytes(TICKET, (0, 1, 3), digest),
        ),
        (
            "node",
            {"node": number(2**63 + 1), "start": some("start", 16).hex()},
            node_bytes(2**63 + 1, some("start", 16)),
        ),
    ):
        end = ", without a sum" if "failure_sum" in given and given["failure_sum"] is None else ""
        what = {"what": name.partition(",")[0], "fields": given}
        vectors.append(case("signed", name + end, what, {"bytes": raw.hex()}))
    headers = list(survivors_of().headers)
    vectors.append(
        case(
            "headers_digest",
            "of four",
            {"headers": [message_json(item) for item in headers]},
            {"digest": headers_digest(headers).hex()},
        )
    )
    what = "Messages between the parties: what is signed, and the bytes on the wire."
    return topic(what, "6 to 10", vectors, _bad_wires())


def _agreed(digest: bytes, total: int | None, earlier: bytes = b"") -> Json:
    return {
        "ticket_digest": TICKET.digest.hex(),
        "survivors_digest": digest.hex(),
        "peer": 4,
        "failure_sum": total,
        "earlier": earlier.hex(),
    }


def _bad_wires() -> list[Json]:
    """Bytes that decode as protobuf, mostly, and are no message."""
    by_name = {name: proto for name, _, proto in _messages()}
    prime = 2**61 - 1

    def changed(name: str, **changes: Any) -> Any:
        copy = type(by_name[name])()
        copy.CopyFrom(by_name[name])
        for field, value in changes.items():
            copy.ClearField(field)
            if isinstance(value, list):
                getattr(copy, field).extend(value)
            else:
                setattr(copy, field, value)
        return copy

    counting = [pb.Counting(index=j, announcement_hash=HASHES[j]) for j in (0, 2, 4)]
    survivors = by_name["survivors"]
    lonely = type(survivors)()
    lonely.CopyFrom(survivors)
    lonely.ClearField("others")
    shown = by_name["an answer"].self_shares
    long_path = pb.ShownShare(
        dealer=0, share=shown[0].share, sibling=shown[0].sibling, path=bytes(16 * 17)
    )
    half_path = pb.ShownShare(
        dealer=0, share=shown[0].share, sibling=shown[0].sibling, path=bytes(24)
    )
    header, agreement = "a header", "an agreement"
    cases = [
        (
            "another ticket's tag",
            "Acknowledge",
            changed("an acknowledge", ticket=bytes(8)),
            "unknown_ticket",
        ),
        (
            "a tag of 7 bytes",
            "Acknowledge",
            changed("an acknowledge", ticket=TICKET.digest[:7]),
            "unknown_ticket",
        ),
        (
            "the whole digest for a tag",
            "Acknowledge",
            changed("an acknowledge", ticket=TICKET.digest),
            "unknown_ticket",
        ),
        (
            "a short confirmation",
            "Acknowledge",
            changed("an acknowledge", confirmation=bytes(63)),
            "malformed",
        ),
        (
            "a short confirmation in a reply",
            "Exchange",
            changed("an exchange, the reply", confirmation=bytes(63)),
            "malformed",
        ),
        (
            "a signature too few",
            "Ready",
            changed("a ready without", signatures=bytes(64)),
            "malformed",
        ),
        ("a holder of 2^16", "Ready", changed("a ready without", holders=[0, 2**16]), "malformed"),
        (
            "another ticket's tag",
            "Ready",
            changed("a ready without", ticket=bytes(8)),
            "unknown_ticket",
        ),
        ("counting out of order", "Header", changed(header, counting=counting[::-1]), "malformed"),
        ("counting twice", "Header", changed(header, counting=counting[:1] * 2), "malformed"),
        ("counting itself", "Header", changed(header, sender=2), "malformed"),
        ("a short hash", "Header", changed(header, announcement_hash=bytes(31)), "malformed"),
        (
            "a masked failure of 2^61 - 1",
            "Header",
            changed(header, masked_failure=prime),
            "malformed",
        ),
        (
            "a failure sum of 2^61 - 1",
            "Agreement",
            changed(agreement, failure_sum=prime),
            "malformed",
        ),
        (
            "a short survivors digest",
            "Agreement",
            changed(agreement, survivors_digest=b"1"),
            "malformed",
        ),
        ("a peer of 2^16", "Agreement", changed(agreement, peer=2**16), "malformed"),
        (
            "another ticket's tag",
            "Agreement",
            changed(agreement, ticket=bytes(8)),
            "unknown_ticket",
        ),
        (
            "a path of 17 nodes",
            "Answer",
            changed("an answer", self_shares=[long_path]),
            "malformed",
        ),
        (
            "a path of a node and a half",
            "Answer",
            changed("an answer", self_shares=[half_path]),
            "malformed",
        ),
        ("a holder of 2^16", "Answer", changed("an answer", holder=2**16), "malformed"),
        ("a bitmap too long", "Survivors", changed("survivors", survivors=bytes(2)), "malformed"),
        (
            "a survivor beyond the cohort",
            "Survivors",
            changed("survivors", survivors=b"\x20"),
            "malformed",
        ),
        (
            "headers of no survivors",
            "Survivors",
            changed("survivors", survivors=b"\x03"),
            "malformed",
        ),
        ("an announcement hash missing", "Survivors", lonely, "bad_header"),
    ]
    bad = [
        refused(
            "message",
            name,
            {"kind": kind, "wire": item.SerializeToString(deterministic=True).hex()},
            reason,
        )
        for name, kind, item, reason in cases
    ]
    cut = by_name["an announcement"].SerializeToString(deterministic=True)[:-1]
    bad.append(refused("upload", "cut short", {"wire": cut.hex()}, "malformed"))
    bad.append(refused("upload", "no protobuf", {"wire": "ff" * 8}, "malformed"))
    bad.append(refused("upload", "empty", {"wire": ""}, "malformed"))
    return bad


TOPICS = {"messages": messages}
