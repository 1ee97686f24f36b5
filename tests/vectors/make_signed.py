"""Known answers of signatures, tickets and announcements."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from smpcfl.net.wire import announcement_to_proto, ticket_to_proto
from smpcfl.protocol.announcement import Announcement
from smpcfl.protocol.dealing import deal
from smpcfl.protocol.signing import AGGREGATOR, REGISTRY, signer
from smpcfl.protocol.summed_metrics import MetricNames
from smpcfl.protocol.ticket import SignedTicket
from vectors.files import Json, case, number, refused, topic
from vectors.given import (
    COHORT,
    Tape,
    evaluation,
    five,
    key,
    message_json,
    part,
    scalar,
    signer_of,
    some,
    three,
)

_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_RFC6979 = 0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721


def signing() -> Json:
    vectors = [
        case(
            "key",
            name,
            {"private": f"{scalar(name):064x}"},
            {"public": _point(key(name)).hex()},
        )
        for name in (AGGREGATOR, REGISTRY, "ca", *COHORT)
    ]
    rfc = ec.derive_private_key(_RFC6979, ec.SECP256R1())
    messages = {
        "RFC 6979, A.2.5, sample": (rfc, b"sample"),
        "RFC 6979, A.2.5, test": (rfc, b"test"),
        "an empty message": (key("alpha"), b""),
        "the ticket of five peers": (key(AGGREGATOR), five().ticket.signed_bytes),
    }
    for name, (private, message) in messages.items():
        signature = signer(private, deterministic=True)(message)
        given = {
            "private": f"{private.private_numbers().private_value:064x}",
            "public": _point(private).hex(),
            "message": message.hex(),
        }
        vectors.append(case("sign", name, given, {"signature": signature.hex()}))
    right = {"public": _point(rfc).hex(), "message": b"sample".hex()}
    signature = signer(rfc, deterministic=True)(b"sample")
    r, s = signature[:32], signature[32:]
    whole = int.from_bytes(s, "big")
    other = _pair(r, _ORDER - whole)
    vectors.append(
        case(
            "verify",
            "s replaced by its negative",
            right | {"signature": other.hex()},
            {"valid": True},
        )
    )
    flipped = bytes([signature[0] ^ 1]) + signature[1:]
    wrong: dict[str, Json] = {
        "a flipped bit in the message": {"message": b"sampld".hex()},
        "another's key": {"public": _point(key("alpha")).hex()},
        "a flipped bit in r": {"signature": flipped.hex()},
        "a flipped bit in s": {"signature": (signature[:-1] + bytes([signature[-1] ^ 1])).hex()},
        "r and s exchanged": {"signature": (s + r).hex()},
        "r of zero": {"signature": _pair(bytes(32), whole).hex()},
        "s of zero": {"signature": _pair(r, 0).hex()},
        "s of the group's order": {"signature": _pair(r, _ORDER).hex()},
        "little-endian": {"signature": (r[::-1] + s[::-1]).hex()},
        "DER": {"signature": encode_dss_signature(int.from_bytes(r, "big"), whole).hex()},
        "63 bytes": {"signature": signature[:-1].hex()},
        "65 bytes": {"signature": (signature + b"\0").hex()},
        "a zero before s": {"signature": (r + b"\0" + s).hex()},
        "empty": {"signature": ""},
    }
    bad = [
        refused("verify", name, right | {"signature": signature.hex()} | change, "bad_signature")
        for name, change in wrong.items()
    ]
    what = "ECDSA on P-256 with SHA-256, nonces by RFC 6979; public keys as uncompressed points."
    return topic(what, "2", vectors, bad)


def _point(private: ec.EllipticCurvePrivateKey) -> bytes:
    return private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _pair(r: bytes, s: int) -> bytes:
    return r + s.to_bytes(32, "big")


def ticket() -> Json:
    tickets = {
        "five peers": five(),
        "additive": three(),
        "a low threshold": five(threshold=2),
        "least values": five(
            run=0,
            round=0,
            serial=1,
            width=64,
            clip=2.0**-10,
            weight_cap=1,
            body=0,
            wide=8,
            min_survivors=2,
            weighted_by="n",
            metrics=MetricNames(),
        ),
        "an evaluation": evaluation(),
        "an evaluation whose metrics are not known yet": evaluation(MetricNames(open=True)),
        "64 numbers": five(
            metrics=MetricNames((("a list", 62), ("loss", 0), ("verlässlich", 0))),
            wide=2 + 128 + 8,
        ),
        "a part of the model": part(),
        "of a group": five(draw=1_760_000_000, group=3),
        "names that are not ASCII": five(cohort=("alpha", "zulu", "zürich"), threshold=2),
    }
    vectors = [_ticket(name, signed) for name, signed in tickets.items()]
    deadlines = message_json(five().ticket.deadlines)

    def named(items: list[Any]) -> Json:
        return {"named": items, "open": False}

    changes: dict[str, Json] = {
        "a serial of zero": {"serial": 0},
        "a serial of 2^63": {"serial": number(2**63)},
        "a nonce of 31 bytes": {"nonce": "00" * 31},
        "plain Flower has no ticket": {"mode": "normal"},
        "an unknown mode": {"mode": "Seeded"},
        "two peers": {"cohort": ["alpha", "bravo"], "threshold": 1, "min_survivors": 2},
        "a cohort out of order": {"cohort": ["bravo", "alpha", "charlie", "delta", "echo"]},
        "a peer twice": {"cohort": ["alpha", "alpha", "charlie", "delta", "echo"]},
        "a peer without a name": {"cohort": ["", "bravo", "charlie", "delta", "echo"]},
        "a name of 65 characters": {"cohort": ["a" * 65, "bravo", "charlie", "delta", "echo"]},
        "the aggregator as a peer": {"cohort": ["aggregator", "bravo", "charlie", "delta"]},
        "the registry as a peer": {"cohort": ["alpha", "bravo", "charlie", "registry"]},
        "no threshold": {"threshold": 0},
        "a threshold above the degree": {"threshold": 5},
        "a width of 4": {"width": 4},
        "a clip of zero": {"clip": (0.0).hex()},
        "a negative clip": {"clip": (-1.0).hex()},
        "an infinite clip": {"clip": "inf"},
        "a clip that is no number": {"clip": "nan"},
        "no weight cap": {"weight_cap": 0},
        "no room for the trailer and metrics": {"wide": 11},
        "a vector above 2^31 bytes": {"body": 2**30, "width": 64},
        "a task that there is not": {"task": "query"},
        "no task": {"task": ""},
        "an evaluation with a model in its vector": {"task": "evaluate"},
        "an evaluation with floats": {"task": "evaluate", "wide": 12},
        "an evaluation with integers": {"task": "evaluate", "body": 0},
        "arrays out of order": {"arrays": ["lora_b", "lora_a"]},
        "an array twice": {"arrays": ["lora_a", "lora_a"]},
        "an array without a name": {"arrays": [""]},
        "an array's name of 257 characters": {"arrays": ["a" * 257]},
        "an evaluation of arrays": {
            "task": "evaluate",
            "body": 0,
            "wide": 12,
            "arrays": ["lora_a"],
        },
        "a group of no draw": {"group": 1},
        "a draw without a group": {"draw": 7},
        "weighted by nothing": {"weighted_by": ""},
        "weighted by 65 characters": {"weighted_by": "w" * 65},
        "metrics out of order": {"metrics": named([["loss", 0], ["accuracy", 0]])},
        "a metric twice": {"metrics": named([["loss", 0], ["loss", 0]])},
        "a metric without a name": {"metrics": named([["", 0]])},
        "a metric's name of 65 characters": {"metrics": named([["m" * 65, 0]])},
        "a list of 65 numbers": {"metrics": named([["loss", 65]]), "wide": 140},
        "65 numbers together": {"metrics": named([["a", 64], ["b", 0]]), "wide": 140},
        "names, and yet not known": {
            "metrics": {"named": [["loss", 0]], "open": True},
            "wide": 309,
        },
        "no room for names that are not known": {"metrics": named([]) | {"open": True}},
        "one survivor": {"min_survivors": 1},
        "more survivors than peers": {"min_survivors": 6},
        "a model digest of 20 bytes": {"model_digest": "00" * 20},
        "no configuration digest": {"config_digest": ""},
        "deadlines out of order": {"deadlines": deadlines | {"ready": 20_000}},
        "no exchange deadline": {"deadlines": deadlines | {"exchange": 0}},
        "a deadline of a day": {"deadlines": deadlines | {"unmask": 86_400_000}},
    }
    another = {"ticket": "five peers", "change": {"version": 1}}
    bad = [
        refused("ticket", "another version", another, "other_protocol"),
        *(
            refused("ticket", name, {"ticket": "five peers", "change": change}, "malformed")
            for name, change in changes.items()
        ),
    ]
    return topic("Tickets: signed bytes, digest, and the bytes on the wire.", "5", vectors, bad)


def _ticket(name: str, signed: SignedTicket) -> Json:
    one = signed.ticket
    return case(
        "ticket",
        name,
        {"fields": message_json(one)},
        {
            "signed": one.signed_bytes.hex(),
            "digest": one.digest.hex(),
            "vector_bytes": one.layout.nbytes,
            "span": number(one.quantiser.span),
            "signature": signed.signature.hex(),
            "wire": ticket_to_proto(signed).SerializeToString(deterministic=True).hex(),
        },
    )


def announcement() -> Json:
    one = five().ticket
    entropy = some("entropy charlie", 352)
    found, secrets = deal(one, 2, signer_of("charlie"), Tape(entropy))
    vectors = [
        case(
            "deal",
            "charlie among five",
            {"ticket": "five peers", "dealer": 2, "entropy": entropy.hex()},
            {
                "announcement": message_json(found),
                "dealt": {str(j): message_json(dealt) for j, dealt in secrets.dealt.items()},
                "failure_mask": number(secrets.failure_mask),
                "own_failure_share": number(secrets.failure_share),
            },
        ),
        case(
            "announcement",
            "charlie among five",
            {"fields": message_json(found)},
            {
                "signed": found.signed_bytes.hex(),
                "hash": found.hash.hex(),
                "wire": announcement_to_proto(found).SerializeToString(deterministic=True).hex(),
            },
        ),
    ]
    other = some("another ticket", 32)
    wrong = [
        (
            "another ticket's",
            _signed_again(found, "charlie", ticket_digest=other),
            "unknown_ticket",
        ),
        ("of nobody in the cohort", _signed_again(found, "charlie", dealer=5), "not_in_cohort"),
        ("signed by another", _signed_again(found, "delta"), "bad_signature"),
        ("changed after it was signed", replace(found, shares_root=other[:16]), "bad_signature"),
    ]
    ticket_ = {"ticket": "five peers"}
    bad = [
        refused("announcement", name, ticket_ | {"fields": message_json(item)}, reason)
        for name, item, reason in wrong
    ]
    for name, change in {
        "a public key of 31 bytes": {"public_key": "00" * 31},
        "a commitment of 33 bytes": {"commitment": "00" * 33},
        "no root": {"shares_root": ""},
        "a signature of 63 bytes": {"signature": "00" * 63},
        "a dealer of 2^16": {"dealer": 2**16},
        "a ticket digest of 8 bytes": {"ticket_digest": "00" * 8},
    }.items():
        fields = message_json(found) | change
        bad.append(refused("announcement", name, ticket_ | {"fields": fields}, "malformed"))
    bad += _bad_shares(message_json(found), message_json(secrets.dealt[0]))
    return topic("What one dealer deals and announces.", "6", vectors, bad)


def _signed_again(item: Announcement, name: str, **changes: Any) -> Announcement:
    changed = replace(item, **changes)
    return replace(changed, signature=signer_of(name)(changed.signed_bytes))


def _bad_shares(announcement_: Json, right: Json) -> list[Json]:
    def flipped(raw: str) -> str:
        return raw[:-1] + f"{int(raw[-1], 16) ^ 1:x}"

    path = right["path"]
    cases: dict[str, tuple[Json, int, str]] = {
        "a flipped bit in the share of the self seed": (
            {"self_share": flipped(right["self_share"])},
            0,
            "bad_share",
        ),
        "a flipped bit in the share of the private key": (
            {"pair_share": flipped(right["pair_share"])},
            0,
            "bad_share",
        ),
        "the two shares exchanged": (
            {"self_share": right["pair_share"], "pair_share": right["self_share"]},
            0,
            "bad_share",
        ),
        "a flipped bit in the path": ({"path": [flipped(path[0]), *path[1:]]}, 0, "bad_share"),
        "a path too short": ({"path": path[:1]}, 0, "bad_share"),
        "a path too long": ({"path": [*path, path[0]]}, 0, "bad_share"),
        "another holder's": ({}, 1, "bad_share"),
        "a share of 32 bytes": ({"self_share": right["self_share"][2:]}, 0, "malformed"),
        "a path of 17 nodes": ({"path": path[:1] * 17}, 0, "malformed"),
        "a failure share of 2^61 - 1": ({"failure_share": number(2**61 - 1)}, 0, "malformed"),
    }
    return [
        refused(
            "dealt",
            name,
            {
                "ticket": "five peers",
                "announcement": announcement_,
                "holder": holder,
                "dealt": right | change,
            },
            reason,
        )
        for name, (change, holder, reason) in cases.items()
    ]


TOPICS = {"signing": signing, "ticket": ticket, "announcement": announcement}
