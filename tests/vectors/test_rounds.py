"""Whole rounds of known answers: run by the code, and summed once more from the protocol's text alone."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from smpcfl.protocol.additive import AdditivePeerRound
from smpcfl.protocol.aggregator_round import AggregatorRound
from smpcfl.protocol.keystream import Secret
from smpcfl.protocol.messages import Upload
from smpcfl.protocol.peer_round import PeerRound
from smpcfl.protocol.policy import Policy
from smpcfl.protocol.quantise import decode_update, encode_update
from smpcfl.protocol.signing import signer
from smpcfl.protocol.survivors import survivors_digest
from vectors import reading, reference
from vectors.driver import Driven
from vectors.files import Json, bad, good, load
from vectors.reading import (
    arrays,
    key_of,
    keyring,
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
from vectors.test_messages import values
from vectors.test_numbers import encoded

(ROUND,) = good("round", "round")
(ADDITIVE,) = good("additive", "round")
GIVEN, FOUND = ROUND.values
FIELDS = ticket_fields(GIVEN["ticket"])
COHORT = FIELDS["cohort"]


def sign(name: str) -> Any:
    return signer(key_of(name), deterministic=True)


def signed_ticket(name: str) -> Any:
    (found,) = (item for item in load("ticket")["vectors"] if item["name"] == name)
    return ticket_of(found["input"]["fields"], found["output"]["signature"])


# -- by the code ----------------------------------------------------------------------------------------


@cache
def driven() -> tuple[Driven, Any]:
    signed, ring = signed_ticket(GIVEN["ticket"]), keyring()
    rounds = {
        peer: PeerRound(signed, peer, Policy(), sign(peer), ring, tape(GIVEN["entropy"][peer]))
        for peer in signed.ticket.cohort
    }
    addends = {peer: signed.ticket.layout.parse(raw(q)) for peer, q in FOUND["addends"].items()}
    failing = frozenset(item["peer"] for item in GIVEN["updates"] if item["failed"])
    lost = frozenset(GIVEN["lost_after_ready"])
    aggregator = AggregatorRound(signed, sign("aggregator"), ring)
    run = Driven(rounds, aggregator, addends, failing, lost)
    return run, run.run()


@pytest.mark.parametrize(
    "update", [pytest.param(item, id=item["peer"]) for item in GIVEN["updates"]]
)
def test_what_each_peer_adds(update: Json) -> None:
    expected = FOUND["addends"][update["peer"]]
    fields = ticket_fields(GIVEN["ticket"])
    quantiser = {name: fields[name] for name in ("width", "clip", "weight_cap")} | {"cohort": 5}
    if update["failed"]:
        assert expected == (bytes(10 + 8 * 6) + b"\x01" + bytes(8 * 8 - 1)).hex()
    else:
        words = reference.metric_words(reading.reported(update["values"]), update["examples"])
        rest = {"quantiser": quantiser, "given": GIVEN["model"], "metrics": words, "reports": True}
        whole_ = update | rest
        assert encoded(whole_).tobytes().hex() == expected


def test_what_is_announced_and_dealt() -> None:
    run, _ = driven()
    for peer, fields in FOUND["announcements"].items():
        round_ = run.rounds[peer]
        assert isinstance(round_, PeerRound)
        assert round_.announcement == reading.announcement(fields)
    dealt = {(sender, to): message for sender, to, message in run.exchanged}
    assert len(FOUND["dealt"]) == len(dealt) == 20
    for item in FOUND["dealt"]:
        assert dealt[item["from"], item["to"]].dealt == reading.dealt(item)


def test_what_is_confirmed() -> None:
    run, _ = driven()
    for peer, item in FOUND["receipts"].items():
        round_ = run.rounds[peer]
        assert isinstance(round_, PeerRound)
        assert round_._receipts.own == reading.receipt(item)


def test_what_is_uploaded() -> None:
    run, _ = driven()
    assert run.uploads.keys() == FOUND["uploads"].keys()
    for peer, item in FOUND["uploads"].items():
        assert run.uploads[peer].header == reading.header(item["header"])
        assert run.uploads[peer].vector.hex() == item["vector"]


def test_who_survives_and_who_agrees() -> None:
    run, _ = driven()
    expected, message = FOUND["survivors"], run.survivors
    assert message is not None
    assert list(message.survivors) == expected["survivors"]
    assert message.headers_digest.hex() == expected["headers_digest"]
    assert message.signature.hex() == expected["signature"]
    assert survivors_digest(ticket(GIVEN["ticket"]), message).hex() == expected["digest"]
    agreements = {peer: reading.agreement(item) for peer, item in FOUND["agreements"].items()}
    assert run.agreements == agreements


def test_what_unmasks_and_what_comes_out() -> None:
    run, total = driven()
    assert run.answers == {peer: reading.answer(item) for peer, item in FOUND["answers"].items()}
    assert total.tobytes().hex() == FOUND["total"]
    one = ticket(GIVEN["ticket"])
    new, counters = decode_update(one.quantiser, arrays(GIVEN["model"]), total, 4)
    assert {n: a.tolist() for n, a in new.items()} == {
        n: a.tolist() for n, a in arrays(FOUND["new_model"]).items()
    }
    assert counters.peers - counters.contributors == FOUND["failed"]
    words = total.wide[2:6]
    means = one.metrics.decode(words, counters.reporters, counters.examples)
    assert means == reading.reported(FOUND["means"])
    named = FIELDS["metrics"]["named"]
    assert means == reference.metric_means(named, words.tolist(), int(total.wide[6 + 4]))


def sent(given: Json) -> Upload:
    announced = given["announcement"]
    return Upload(
        reading.header(given["header"]),
        None if announced is None else reading.announcement(announced),
        raw(given["vector"]),
    )


def aggregator() -> AggregatorRound:
    """With all uploads of the round."""
    found = AggregatorRound(signed_ticket(GIVEN["ticket"]), sign("aggregator"), keyring())
    for peer, item in FOUND["uploads"].items():
        found.upload(peer, sent(item | {"announcement": FOUND["announcements"][peer]}))
    return found


@pytest.mark.parametrize(("given", "reason"), bad("round", "upload"))
def test_uploads_that_are_refused(given: Json, reason: str) -> None:
    refuses(reason, lambda: aggregator().upload(given["peer"], sent(given)))


@pytest.mark.parametrize(("given", "reason"), bad("round", "answer"))
def test_answers_that_are_refused(given: Json, reason: str) -> None:
    open_ = aggregator()
    open_.fix_survivors()
    refuses(reason, lambda: open_.answer(given["peer"], reading.answer(given["answer"])))


def test_a_sum_with_too_few_answers_is_refused() -> None:
    open_ = aggregator()
    open_.fix_survivors()
    for peer in ("alpha", "bravo"):
        open_.answer(peer, reading.answer(FOUND["answers"][peer]))
    refuses("too_few_answers", open_.total)


# -- by the text ------------------------------------------------------------------------------------------

SHAPE = FIELDS["width"], FIELDS["body"], FIELDS["wide"]
(DIGEST,) = (
    raw(item["output"]["digest"])
    for item in load("ticket")["vectors"]
    if item["name"] == GIVEN["ticket"]
)


def check(name: str, message: bytes, signature: str) -> None:
    """With cryptography's own verification of DER."""
    (point,) = (i["output"]["public"] for i in load("signing")["vectors"] if i["name"] == name)
    r, s = int(signature[:64], 16), int(signature[64:], 16)
    public_key(raw(point)).verify(encode_dss_signature(r, s), message, ec.ECDSA(SHA256()))


def test_every_signature_is_over_what_the_text_says() -> None:
    hashes = []
    for peer, item in FOUND["announcements"].items():
        signed = reference.announcement(values(item))
        hashes.append(reference.digest("announcement hash", signed))
        check(peer, signed, item["signature"])
    for peer, item in FOUND["receipts"].items():
        listed = {dealer: hashes[dealer] for dealer in item["dealers"]}
        signed = reference.receipt(DIGEST, 5, COHORT.index(peer), item["number"], listed)
        check(peer, signed, item["signature"])
    headers = []
    for peer, item in FOUND["uploads"].items():
        fields = item["header"]
        assert [raw(h) for _, h in fields["counting"]] == [hashes[j] for j, _ in fields["counting"]]
        headers.append(reference.header(values(fields, "masked_failure")))
        check(peer, headers[-1], fields["signature"])
    survivors = FOUND["survivors"]
    digest = reference.digest("headers", headers)
    assert digest.hex() == survivors["headers_digest"]
    signed = reference.survivors(DIGEST, 5, survivors["survivors"], digest)
    check("aggregator", signed, survivors["signature"])
    assert reference.digest("survivors digest", signed).hex() == survivors["digest"]
    for peer, item in FOUND["agreements"].items():
        check(peer, reference.agreement(values(item, "failure_sum")), item["signature"])
    with pytest.raises(InvalidSignature):
        check("alpha", signed, survivors["signature"])


def test_the_failures_are_counted_by_the_text() -> None:
    prime, survivors = reference.FAILURE_PRIME, FOUND["survivors"]["survivors"]
    names = {COHORT[j] for j in survivors}
    for peer, item in FOUND["agreements"].items():
        held = [
            whole(d["failure_share"])
            for d in FOUND["dealt"]
            if d["to"] == peer and d["from"] in names
        ]
        own = raw(GIVEN["entropy"][peer])[-24 * 4 :]
        curve = reference.drawn(own, 24, prime)
        held.append(reference.polynomial(curve, item["peer"] + 1, prime))
        assert sum(held) % prime == whole(item["failure_sum"])
    sums = {i["peer"] + 1: whole(i["failure_sum"]) for i in FOUND["agreements"].values()}
    masked = sum(whole(i["header"]["masked_failure"]) for i in FOUND["uploads"].values())
    assert (masked + reference.at_zero(sums, prime)) % prime == FOUND["failed"]


def secrets_from_answers() -> dict[tuple[str, int], bytes]:
    """Secrets of survivors and of the dropped, from the answers' shares; each share checked by its path."""
    shares: dict[tuple[str, int], dict[int, bytes]] = {}
    for item in FOUND["answers"].values():
        for kind in ("self", "pair"):
            for shown in item[f"{kind}_shares"]:
                dealer, share = shown["dealer"], raw(shown["share"])
                number = 1 + [j for j in range(5) if j != dealer].index(item["holder"])
                pair = [reference.share_hash(kind, number, share), raw(shown["sibling"])]
                node = reference.leaf(*(pair if kind == "self" else pair[::-1]))
                root = reference.climb(node, number - 1, raws(shown["path"]))
                assert root.hex() == FOUND["announcements"][COHORT[dealer]]["shares_root"]
                shares.setdefault((kind, dealer), {})[number] = share
    return {
        key: reference.at_zero(
            {x: int.from_bytes(s, "big") for x, s in found.items()}, reference.SHARE_PRIME
        ).to_bytes(32, "big")
        for key, found in shares.items()
    }


def test_the_masks_come_off_by_the_text() -> None:
    survivors, width = FOUND["survivors"]["survivors"], SHAPE[0]
    secrets = secrets_from_answers()
    assert sorted(secrets) == [("pair", 4), *(("self", j) for j in survivors)]
    total = reference.elements(bytes(SHAPE[1] * width // 8 + 8 * SHAPE[2]), *SHAPE[:2])
    for item in FOUND["uploads"].values():
        total = reference.added(total, reference.elements(raw(item["vector"]), *SHAPE[:2]), width)
    for (kind, dealer), secret in secrets.items():
        peer = COHORT[dealer]
        announced = FOUND["announcements"][peer]
        if kind == "self":
            assert reference.commitment(secret, DIGEST, peer).hex() == announced["commitment"]
            key = reference.self_key(secret, DIGEST, peer)
            total = reference.added(total, reference.keystream(key, *SHAPE), width, -1)
            continue
        assert reference.public_key(secret).hex() == announced["public_key"]
        for i in survivors:
            public = raw(FOUND["announcements"][COHORT[i]]["public_key"])
            key = reference.pair_key(secret, public, DIGEST, peer, COHORT[i])
            sign_ = -1 if dealer > i else 1
            total = reference.added(total, reference.keystream(key, *SHAPE), width, sign_)
    assert reference.joined(total, width).hex() == FOUND["total"]
    expected = reference.elements(raw(FOUND["addends"]["alpha"]), *SHAPE[:2])
    for peer in ("bravo", "charlie", "delta"):
        addend = reference.elements(raw(FOUND["addends"][peer]), *SHAPE[:2])
        expected = reference.added(expected, addend, width)
    assert total == expected


# -- an evaluation ------------------------------------------------------------------------------------------

(EVALUATION,) = good("evaluation", "round")


def test_an_evaluation() -> None:
    given, found = EVALUATION.values
    signed, ring = signed_ticket(given["ticket"]), keyring()
    rounds = {
        peer: PeerRound(signed, peer, Policy(), sign(peer), ring, tape(entropy))
        for peer, entropy in given["entropy"].items()
    }
    one, addends = signed.ticket, {}
    for item in given["updates"]:
        values_ = reading.reported(item["values"])
        addends[item["peer"]] = encode_update(
            one.quantiser,
            {},
            {},
            examples=item["examples"],
            metrics=one.metrics.encode(values_, item["examples"], 5),
            rounding=Secret(bytes(32)),
        )
    assert {peer: addend.tobytes().hex() for peer, addend in addends.items()} == found["addends"]
    run = Driven(rounds, AggregatorRound(signed, sign("aggregator"), ring), addends)
    total = run.run()
    assert total.tobytes().hex() == found["total"]
    assert {peer: upload.vector.hex() for peer, upload in run.uploads.items()} == found["uploads"]
    nothing, counted = decode_update(one.quantiser, {}, total, 5)
    assert nothing == {}
    means = one.metrics.decode(total.wide[:-8], counted.reporters, counted.examples)
    assert means == reading.reported(found["means"])


def test_an_evaluation_by_the_text() -> None:
    given, found = EVALUATION.values
    total = [0] * (299 + 8)
    cap = ticket_fields(given["ticket"])["weight_cap"]
    for item in given["updates"]:
        examples = item["examples"]
        words = reference.open_words(reading.reported(item["values"]), examples)
        words += [1, 1, 1, min(examples, cap), examples, 0, 1, 0]
        assert reference.joined(([], words), 16).hex() == found["addends"][item["peer"]]
        _, total = reference.added(([], total), ([], words), 16)
    assert reference.joined(([], total), 16).hex() == found["total"]
    named = reference.metric_names(total[128:299], 5)
    assert named == [["loss", 0], ["recall", 2]]
    means = reference.metric_means(named, total, total[299 + 4])
    assert means == reading.reported(found["means"])


# -- additive -----------------------------------------------------------------------------------------------


def test_an_additive_round() -> None:
    given, found = ADDITIVE.values
    signed, ring = signed_ticket(given["ticket"]), keyring()
    rounds = {
        peer: AdditivePeerRound(signed, peer, sign(peer), tape(entropy))
        for peer, entropy in given["entropy"].items()
    }
    addends = {peer: signed.ticket.layout.parse(raw(q)) for peer, q in given["addends"].items()}
    run = Driven(rounds, AggregatorRound(signed, sign("aggregator"), ring), addends)
    assert run.run().tobytes().hex() == found["total"]
    shares = {(sender, to): message.vector.hex() for sender, to, message in run.exchanged}
    assert shares == {(item["from"], item["to"]): item["vector"] for item in found["shares"]}
    for peer, item in found["uploads"].items():
        assert run.uploads[peer].header == reading.header(item["header"])
        assert run.uploads[peer].vector.hex() == item["vector"]


def test_an_additive_round_by_the_text() -> None:
    given, found = ADDITIVE.values
    fields = ticket_fields(given["ticket"])
    width, body, wide = (fields[name] for name in ("width", "body", "wide"))
    shares = {(item["from"], item["to"]): raw(item["vector"]) for item in found["shares"]}
    total = reference.elements(bytes(body * width // 8 + 8 * wide), width, body)
    for peer, addend in given["addends"].items():
        seeds = raw(given["entropy"][peer])
        partial = reference.elements(raw(addend), width, body)
        others = [other for other in fields["cohort"] if other != peer]
        for place, other in enumerate(others):
            seed = seeds[32 * place : 32 * place + 32]
            share = reference.keystream(seed, width, body, wide)
            assert reference.joined(share, width) == shares[peer, other]
            partial = reference.added(partial, share, width, -1)
            got = reference.elements(shares[other, peer], width, body)
            partial = reference.added(partial, got, width)
        item = found["uploads"][peer]
        assert reference.joined(partial, width).hex() == item["vector"]
        check(
            peer,
            reference.header(values(item["header"], "masked_failure")),
            item["header"]["signature"],
        )
        total = reference.added(total, partial, width)
    assert reference.joined(total, width).hex() == found["total"]
