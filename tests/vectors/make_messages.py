"""Known answers of the messages of a round, and of the survivor set."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from smpc.v1 import messages_pb2 as pb
from smpcfl.net import ready_wire, wire
from smpcfl.net.node_proof import node_bytes
from smpcfl.protocol.announcement import Announcement, Dealt, Equivocation
from smpcfl.protocol.keystream import Secret
from smpcfl.protocol.ledger import set_digest
from smpcfl.protocol.messages import (
    Agreement,
    Answer,
    Exchange,
    Header,
    Ready,
    ReadyReply,
    ShownShare,
    agreement_bytes,
    headers_digest,
    survivors_bytes,
)
from smpcfl.protocol.receipts import KNOWN_BYTES, ListReply, ListRequest, Receipt
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
    receipt = Receipt(3, 1, (0, 1, 3), some("receipt", 64))
    relays = (
        Receipt(0, 3, (0,), some("relay 0", 64)),
        Receipt(4, 2, (1, 2, 4), some("relay 4", 64)),
    )
    second = replace(announcement, commitment=some("second commitment", 32))
    ready = Ready(TICKET.digest, receipt)
    lacking = Ready(
        TICKET.digest,
        counts=True,
        has=2,
        have=((0, 3), (1, 1), (4, 2)),
        proofs=(Equivocation(announcement, second),),
        announcement=announcement,
        failure_share=2**60 + 1,
    )
    known = tuple((j, HASHES[j][:KNOWN_BYTES]) for j in (0, 3))
    question = ListRequest(TICKET.digest, 3, 1, known)
    exchange, shown = Exchange(announcement, dealt), ListReply((announcement, second))
    answer = Answer(TICKET.digest, 3, (_shown(0), _shown(1)), (_shown(2),), (announcement,))
    last = ReadyReply(None, True, True, relays, announcement, 5)
    one = Agreement(TICKET.digest, some("survivors", 32), 4, some("agreement", 64), 2**61 - 2)
    other, zero = replace(one, failure_sum=None), replace(one, failure_sum=0)
    third = replace(one, earlier=set_digest(TICKET.cohort))
    survivors = survivors_of()
    return [
        ("an announcement", announcement, wire.announcement_to_proto(announcement)),
        ("an exchange", exchange, wire.exchange_to_proto(exchange)),
        ("a ready with a receipt", ready, ready_wire.ready_to_proto(ready)),
        ("a ready of who lacks some", lacking, ready_wire.ready_to_proto(lacking)),
        (
            "a reply with a receipt",
            ReadyReply(receipt),
            ready_wire.ready_reply_to_proto(ReadyReply(receipt)),
        ),
        ("a reply with relays", last, ready_wire.ready_reply_to_proto(last)),
        ("a reply of nothing", ReadyReply(), ready_wire.ready_reply_to_proto(ReadyReply())),
        ("a question", question, ready_wire.list_request_to_proto(question)),
        ("an answer to it", shown, ready_wire.list_reply_to_proto(shown)),
        ("a header", header, wire.header_to_proto(header)),
        ("survivors", survivors, wire.survivors_to_proto(survivors, TICKET)),
        ("an agreement", one, wire.agreement_to_proto(one)),
        ("an agreement without a sum", other, wire.agreement_to_proto(other)),
        ("an agreement with a sum of zero", zero, wire.agreement_to_proto(zero)),
        ("an agreement to a second set", third, wire.agreement_to_proto(third)),
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
    header, agreement, ready, question = (
        *("a header", "an agreement"),
        *("a ready with a receipt", "a question"),
    )

    def receipt(**changes: Any) -> Any:
        found = changed(ready)
        for field, value in changes.items():
            setattr(found.receipt, field, value)
        return found

    one_sided = changed("a ready of who lacks some")
    one_sided.proofs[0].other.CopyFrom(one_sided.proofs[0].one)
    cases = [
        ("a tag of 7 bytes", "Ready", changed(ready, ticket=TICKET.digest[:7]), "unknown_ticket"),
        (
            "the whole digest for a tag",
            "Ready",
            changed(ready, ticket=TICKET.digest),
            "unknown_ticket",
        ),
        ("a receipt of nobody", "Ready", receipt(dealers=b""), "malformed"),
        ("a receipt without its holder", "Ready", receipt(dealers=b"\x03"), "malformed"),
        ("a receipt with the number 0", "Ready", receipt(number=0), "malformed"),
        ("a receipt with the number 4", "Ready", receipt(number=4), "malformed"),
        ("a short signature of a receipt", "Ready", receipt(signature=bytes(63)), "malformed"),
        ("a bitmap of 129 bytes", "Ready", receipt(dealers=b"\x0b" + bytes(128)), "malformed"),
        ("numbers of 257 bytes", "Ready", changed(ready, have=bytes(257)), "malformed"),
        ("a failure share of 2^61 - 1", "Ready", changed(ready, failure_share=prime), "malformed"),
        ("a proof of one announcement", "Ready", one_sided, "malformed"),
        ("a hash too few", "ListRequest", changed(question, hashes=bytes(16)), "malformed"),
        ("half a hash", "ListRequest", changed(question, hashes=bytes(24)), "malformed"),
        (
            "another ticket's tag",
            "ListRequest",
            changed(question, ticket=bytes(8)),
            "unknown_ticket",
        ),
        (
            "another ticket's tag",
            "Ready",
            changed(ready, ticket=bytes(8)),
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
