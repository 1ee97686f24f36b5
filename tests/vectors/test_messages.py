"""Signatures, tickets, messages and survivor sets are as the files of known answers say."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from smpc.v1 import messages_pb2 as pb
from smpcfl.net import wire
from smpcfl.net.node_proof import node_bytes
from smpcfl.protocol.dealing import check_dealt, deal
from smpcfl.protocol.errors import Reason
from smpcfl.protocol.keystream import check_public_key
from smpcfl.protocol.messages import (
    Header,
    Survivors,
    agreement_bytes,
    headers_digest,
    survivors_bytes,
)
from smpcfl.protocol.policy import Policy
from smpcfl.protocol.signing import signer, verify
from smpcfl.protocol.survivors import (
    check_contributors,
    check_survivors,
    choose_survivors,
    count_failures,
)
from vectors import reading, reference
from vectors.files import Json, bad, good, named
from vectors.reading import (
    KINDS,
    key_of,
    keyring,
    private_key,
    public_key,
    raw,
    raws,
    refuses,
    tape,
    ticket,
    ticket_fields,
    ticket_of,
    whole,
)

GOOD = ("given", "found")
BAD = ("given", "reason")


TEXTS = ("mode", "task", "weighted_by")


def values(fields: Json, *integers: str) -> Json:
    """Fields for the reference: hex as bytes, where a field is not text or a number."""
    found: Json = {}
    for name, value in fields.items():
        if name in integers:
            found[name] = None if value is None else int(value)
        elif name == "counting":
            found[name] = [[index, raw(hash_)] for index, hash_ in value]
        else:
            found[name] = raw(value) if isinstance(value, str) and name not in TEXTS else value
    return found


# -- signatures -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(GOOD, good("signing", "key"))
def test_identity_keys(given: Json, found: Json) -> None:
    key = private_key(given["private"]).public_key()
    point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    assert point.hex() == found["public"]


@pytest.mark.parametrize(GOOD, good("signing", "sign"))
def test_signatures(given: Json, found: Json) -> None:
    message, signature = raw(given["message"]), raw(found["signature"])
    assert signer(private_key(given["private"]), deterministic=True)(message) == signature
    assert verify(public_key(raw(given["public"])), message, signature)


def test_the_signatures_are_those_of_rfc_6979() -> None:
    found = named("signing", "RFC 6979, A.2.5, sample")["output"]["signature"]
    r = "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716"
    s = "F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8"
    assert found == (r + s).lower()


@pytest.mark.parametrize(GOOD, good("signing", "verify"))
def test_another_signature_of_the_same_content(given: Json, found: Json) -> None:
    parts = public_key(raw(given["public"])), raw(given["message"]), raw(given["signature"])
    assert verify(*parts) is found["valid"]


@pytest.mark.parametrize(BAD, bad("signing", "verify"))
def test_signatures_that_are_refused(given: Json, reason: str) -> None:
    assert reason == Reason.BAD_SIGNATURE
    parts = public_key(raw(given["public"])), raw(given["message"]), raw(given["signature"])
    assert verify(*parts) is False


# -- tickets --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(GOOD, good("ticket", "ticket"))
def test_tickets(given: Json, found: Json) -> None:
    fields = given["fields"]
    signed = ticket_of(fields, found["signature"])
    one = signed.ticket
    assert one.signed_bytes.hex() == found["signed"]
    assert one.digest.hex() == found["digest"]
    assert one.layout.nbytes == found["vector_bytes"]
    assert one.quantiser.span == whole(found["span"])
    assert keyring().verify("aggregator", raw(found["signed"]), raw(found["signature"]))
    assert wire.ticket_to_proto(signed).SerializeToString(deterministic=True).hex() == found["wire"]
    assert wire.ticket_from_proto(pb.SignedTicket.FromString(raw(found["wire"]))) == signed
    plain = {n: v for n, v in fields.items() if n not in ("run", "serial", "clip", "cohort")}
    plain = values(plain) | {"clip": float.fromhex(fields["clip"]), "cohort": fields["cohort"]}
    plain |= {"run": int(fields["run"]), "serial": int(fields["serial"])}
    assert reference.ticket(plain).hex() == found["signed"]
    assert reference.digest("ticket digest", raw(found["signed"])).hex() == found["digest"]


@pytest.mark.parametrize(BAD, bad("ticket", "ticket"))
def test_tickets_that_are_refused(given: Json, reason: str) -> None:
    refuses(reason, lambda: ticket_of(ticket_fields(given["ticket"]) | given["change"]))


# -- announcements --------------------------------------------------------------------------------------


@pytest.mark.parametrize(GOOD, good("announcement", "deal"))
def test_what_one_dealer_deals(given: Json, found: Json) -> None:
    one, dealer = ticket(given["ticket"]), given["dealer"]
    sign = signer(key_of(one.cohort[dealer]), deterministic=True)
    announced, secrets = deal(one, dealer, sign, tape(given["entropy"]))
    assert announced == reading.announcement(found["announcement"])
    assert secrets.dealt == {int(j): reading.dealt(item) for j, item in found["dealt"].items()}
    assert secrets.failure_mask == whole(found["failure_mask"])
    assert secrets.failure_share == whole(found["own_failure_share"])
    for j, item in found["dealt"].items():
        check_dealt(one, int(j), announced, reading.dealt(item))


@pytest.mark.parametrize(GOOD, good("announcement", "deal"))
def test_what_one_dealer_deals_by_the_text(given: Json, found: Json) -> None:
    one, dealer, entropy = ticket(given["ticket"]), given["dealer"], raw(given["entropy"])
    t, dealt, announced = one.threshold, found["dealt"], found["announcement"]
    private, seed, entropy = entropy[:32], entropy[32:64], entropy[64:]
    size = 48 * (t - 1)
    prime = reference.SHARE_PRIME
    own = [int.from_bytes(seed, "big"), *reference.drawn(entropy[:size], 48, prime)]
    pair = [int.from_bytes(private, "big"), *reference.drawn(entropy[size : 2 * size], 48, prime)]
    failure = reference.drawn(entropy[2 * size :], 24, reference.FAILURE_PRIME)
    assert len(failure) == t + 1
    leaves = []
    for holder, j in enumerate((j for j in range(len(one.cohort)) if j != dealer), 1):
        item = dealt[str(j)]
        shares = [
            reference.polynomial(curve, holder, prime).to_bytes(33, "big") for curve in (own, pair)
        ]
        assert [item["self_share"], item["pair_share"]] == [share.hex() for share in shares]
        assert whole(item["failure_share"]) == reference.polynomial(
            failure, j + 1, reference.FAILURE_PRIME
        )
        hashes = [
            reference.share_hash(k, holder, s)
            for k, s in zip(("self", "pair"), shares, strict=True)
        ]
        leaves.append(reference.leaf(*hashes))
        climbed = reference.climb(leaves[-1], holder - 1, raws(item["path"]))
        assert climbed.hex() == announced["shares_root"]
    assert reference.root(leaves).hex() == announced["shares_root"]
    assert reference.public_key(private).hex() == announced["public_key"]
    committed = reference.commitment(seed, one.digest, one.cohort[dealer])
    assert committed.hex() == announced["commitment"]


@pytest.mark.parametrize(GOOD, good("announcement", "announcement"))
def test_announcements(given: Json, found: Json) -> None:
    item = reading.announcement(given["fields"])
    assert item.signed_bytes.hex() == found["signed"]
    assert reference.announcement(values(given["fields"])).hex() == found["signed"]
    assert item.hash.hex() == found["hash"]
    assert reference.digest("announcement hash", raw(found["signed"])).hex() == found["hash"]
    proto = wire.announcement_to_proto(item)
    assert proto.SerializeToString(deterministic=True).hex() == found["wire"]
    sent = pb.Announcement.FromString(raw(found["wire"]))
    assert wire.announcement_from_proto(sent, item.ticket_digest) == item
    item.check(ticket("five peers"), keyring())
    check_public_key(item.public_key, "anyone")


@pytest.mark.parametrize(BAD, bad("announcement", "announcement"))
def test_announcements_that_are_refused(given: Json, reason: str) -> None:
    one, ring = ticket(given["ticket"]), keyring()
    refuses(reason, lambda: reading.announcement(given["fields"]).check(one, ring))


@pytest.mark.parametrize(BAD, bad("announcement", "dealt"))
def test_shares_that_are_not_what_was_announced(given: Json, reason: str) -> None:
    one, announced = ticket(given["ticket"]), reading.announcement(given["announcement"])
    holder = given["holder"]
    refuses(reason, lambda: check_dealt(one, holder, announced, reading.dealt(given["dealt"])))


# -- messages -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(GOOD, good("messages", "message"))
def test_messages_on_the_wire_in_both_directions(given: Json, found: Json) -> None:
    read, send, receive = KINDS[given["kind"]]
    item = read(given["fields"])
    assert send(item).SerializeToString(deterministic=True).hex() == found["wire"]
    assert receive(raw(found["wire"]), ticket("five peers")) == item


@pytest.mark.parametrize(GOOD, good("messages", "upload"))
def test_the_part_of_an_upload_that_is_not_the_vector(given: Json, found: Json) -> None:
    header = reading.header(given["header"])
    announced = reading.announcement(given["announcement"])
    meta = wire.upload_meta_to_proto(header, announced)
    assert meta.SerializeToString(deterministic=True).hex() == found["wire"]
    upload = wire.upload_from(raw(found["wire"]), b"vector")
    assert (upload.header, upload.announcement, upload.vector) == (header, announced, b"vector")


@pytest.mark.parametrize(BAD, bad("messages", "message"))
def test_messages_that_are_refused(given: Json, reason: str) -> None:
    one, receive = ticket("five peers"), KINDS[given["kind"]][2]
    refuses(reason, lambda: receive(raw(given["wire"]), one))


@pytest.mark.parametrize(BAD, bad("messages", "upload"))
def test_uploads_that_are_refused(given: Json, reason: str) -> None:
    refuses(reason, lambda: wire.upload_from(raw(given["wire"]), b""))


@pytest.mark.parametrize(GOOD, good("messages", "signed"))
def test_what_each_message_signs(given: Json, found: Json) -> None:
    fields, expected = given["fields"], raw(found["bytes"])
    ours, text = SIGNED[given["what"]](fields)
    assert ours == expected
    assert text == expected


def _survivors_signed(fields: Json) -> tuple[bytes, bytes]:
    one, chosen, digest = (
        ticket(fields["ticket"]),
        fields["survivors"],
        raw(fields["headers_digest"]),
    )
    ours = survivors_bytes(one, chosen, digest)
    return ours, reference.survivors(one.digest, len(one.cohort), chosen, digest)


def _agreement_signed(fields: Json) -> tuple[bytes, bytes]:
    plain = values(fields, "failure_sum")
    ours = agreement_bytes(
        plain["ticket_digest"],
        plain["survivors_digest"],
        plain["peer"],
        plain["failure_sum"],
        plain["earlier"],
    )
    return ours, reference.agreement(plain)


def _node_signed(fields: Json) -> tuple[bytes, bytes]:
    parts = whole(fields["node"]), raw(fields["start"])
    return node_bytes(*parts), reference.canonical("node", *parts)


SIGNED: dict[str, Any] = {
    "header": lambda fields: (
        reading.header(fields).signed_bytes,
        reference.header(values(fields, "masked_failure")),
    ),
    "survivors": _survivors_signed,
    "agreement": _agreement_signed,
    "node": _node_signed,
}


@pytest.mark.parametrize(GOOD, good("messages", "headers_digest"))
def test_the_digest_of_all_headers(given: Json, found: Json) -> None:
    headers = [reading.header(item) for item in given["headers"]]
    assert headers_digest(headers).hex() == found["digest"]
    signed = [reference.header(values(item, "masked_failure")) for item in given["headers"]]
    assert reference.digest("headers", signed).hex() == found["digest"]


# -- survivors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(GOOD, good("survivors", "choose"))
def test_the_choice_of_survivors(given: Json, found: Json) -> None:
    headers = {item["sender"]: reading.header(item) for item in given["headers"]}
    chosen = choose_survivors(ticket(given["ticket"]), headers)
    assert sorted(chosen) == found["survivors"]
    plain = {item["sender"]: values(item, "masked_failure") for item in given["headers"]}
    assert reference.chosen(ticket(given["ticket"]).threshold, plain) == found["survivors"]


def checked(given: Json) -> bytes:
    one = ticket(given["ticket"])
    known = {int(j): raw(hash_) for j, hash_ in given["known"].items()}
    return check_survivors(one, Policy(), keyring(), reading.survivors(given["message"]), known)


@pytest.mark.parametrize(GOOD, good("survivors", "check"))
def test_a_survivor_set_that_peers_agree_to(given: Json, found: Json) -> None:
    assert checked(given).hex() == found["digest"]
    one, message = ticket(given["ticket"]), given["message"]
    digest = raw(message["headers_digest"])
    signed = reference.survivors(one.digest, len(one.cohort), message["survivors"], digest)
    assert reference.digest("survivors digest", signed).hex() == found["digest"]


@pytest.mark.parametrize(BAD, bad("survivors", "check"))
def test_survivor_sets_that_are_refused(given: Json, reason: str) -> None:
    refuses(reason, lambda: checked(given))


@pytest.mark.parametrize(BAD, bad("survivors", "contributors"))
def test_counts_of_failures_that_are_refused(given: Json, reason: str) -> None:
    one, zero, members = ticket(given["ticket"]), bytes(32), given["survivors"]
    headers = tuple(
        Header(one.digest, j, zero, (), bytes(64), masked)
        for j, masked in zip(members, given["masked"], strict=True)
    )
    message = Survivors(one.digest, tuple(members), headers, zero, bytes(64))
    sums = {int(j): value for j, value in given["sums"].items()}
    refuses(
        reason,
        lambda: check_contributors(one, Policy(), message, count_failures(one, message, sums)),
    )
