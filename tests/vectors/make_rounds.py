"""Known answers of whole rounds: five peers of which one is lost and one fails, and three in `additive`."""

from __future__ import annotations

import numpy as np

from smpcfl.protocol.additive import AdditivePeerRound
from smpcfl.protocol.aggregator_round import AggregatorRound
from smpcfl.protocol.keystream import Secret
from smpcfl.protocol.peer_round import PeerRound
from smpcfl.protocol.policy import Policy
from smpcfl.protocol.quantise import decode_update, encode_failure, encode_update
from smpcfl.protocol.ring import RingVector
from smpcfl.protocol.signing import AGGREGATOR, KeyTable
from smpcfl.protocol.summed_metrics import MetricNames, Values
from smpcfl.protocol.survivors import survivors_digest
from smpcfl.protocol.ticket import SignedTicket, Ticket
from smpcfl.protocol.trailer import LENGTH, Trailer
from vectors.driver import Driven
from vectors.files import Json, case, refused, topic
from vectors.given import (
    Tape,
    arrays_json,
    evaluation,
    five,
    key,
    message_json,
    model,
    signer_of,
    some,
    three,
    values_json,
)

LOST, FAILED = "echo", "delta"
# Two secrets, their coefficients, r_i and its coefficients: in the order in which `entropy` is read.
ENTROPY_BYTES = 32 + 32 + 2 * 48 + 2 * 48 + 24 + 3 * 24


def _trained(place: int) -> dict[str, np.ndarray]:
    change = {
        "layer.weight": np.array([[0.25, -0.125], [0.0625, 0.03125]], "<f4") * np.float32(place),
        "layer.steps": np.array([place, -place], "<i8"),
        "layer.bias": np.array([0.125 * place], "<f8"),
    }
    return {name: array + change[name] for name, array in model().items()}


def _updates(signed: SignedTicket) -> tuple[list[Json], dict[str, RingVector]]:
    ticket, given, addends = signed.ticket, [], {}
    for place, peer in enumerate(ticket.cohort):
        if peer == FAILED:
            given.append({"peer": peer, "failed": True})
            addends[peer] = encode_failure(ticket.layout, len(ticket.cohort))
            continue
        trained, rounding = _trained(place + 1), bytes([place + 1]) * 32
        examples = 30 * (place + 1)
        values: Values = {"accuracy": 0.75 + place / 64, "loss": 0.25}
        words = ticket.metrics.encode(values, examples, len(ticket.cohort))
        addends[peer] = encode_update(
            ticket.quantiser,
            model(),
            trained,
            examples=examples,
            metrics=words,
            rounding=Secret(rounding),
        )
        given.append(
            {
                "peer": peer,
                "failed": False,
                "trained": arrays_json(trained),
                "examples": examples,
                "values": values_json(values),
                "rounding": rounding.hex(),
            }
        )
    return given, addends


def _means(ticket: Ticket, total: RingVector, counted: Trailer) -> Json:
    words = total.wide[-LENGTH - ticket.metrics.words : -LENGTH]
    return values_json(ticket.metrics.decode(words, counted.reporters, counted.examples))


def _keyring(signed: SignedTicket) -> KeyTable:
    return KeyTable({name: key(name).public_key() for name in (AGGREGATOR, *signed.ticket.cohort)})


def round_() -> Json:
    signed = five()
    ticket, keyring = signed.ticket, _keyring(signed)
    updates, addends = _updates(signed)
    tapes = {peer: Tape(some(f"entropy {peer}", ENTROPY_BYTES)) for peer in ticket.cohort}
    entropy = {peer: tape.left.hex() for peer, tape in tapes.items()}
    rounds = {
        peer: PeerRound(signed, peer, Policy(), signer_of(peer), keyring, tapes[peer])
        for peer in ticket.cohort
    }
    assert not any(tape.left for tape in tapes.values())
    driven = Driven(
        rounds,
        AggregatorRound(signed, signer_of(AGGREGATOR), keyring),
        addends,
        frozenset({FAILED}),
        frozenset({LOST}),
    )
    total = driven.run()
    survivors = driven.survivors
    assert survivors is not None
    new, counted = decode_update(ticket.quantiser, model(), total, len(survivors.survivors))
    output = {
        "addends": {peer: addend.tobytes().hex() for peer, addend in addends.items()},
        "announcements": {peer: message_json(rounds[peer].announcement) for peer in rounds},
        "dealt": [
            {"from": sender, "to": to, **message_json(message.dealt)}
            for sender, to, message in sorted(driven.exchanged, key=lambda item: item[:2])
        ],
        "receipts": {peer: message_json(rounds[peer]._receipts.own) for peer in rounds},
        "uploads": {
            peer: {"header": message_json(upload.header), "vector": upload.vector.hex()}
            for peer, upload in driven.uploads.items()
        },
        "survivors": {
            "survivors": list(survivors.survivors),
            "headers_digest": survivors.headers_digest.hex(),
            "signature": survivors.signature.hex(),
            "digest": survivors_digest(ticket, survivors).hex(),
        },
        "agreements": {
            peer: message_json(item) for peer, item in sorted(driven.agreements.items())
        },
        "answers": {peer: message_json(item) for peer, item in driven.answers.items()},
        "failed": 1,
        "total": total.tobytes().hex(),
        "new_model": arrays_json(new),
        "means": _means(ticket, total, counted),
    }
    given = {
        "ticket": "five peers",
        "model": arrays_json(model()),
        "lost_after_ready": [LOST],
        "entropy": entropy,
        "updates": updates,
    }
    name = "five peers, one lost after ready, one whose training failed"
    what = (
        "A whole round. Each peer reads its entropy in this order: 32 bytes of the X25519 key, 32 of the"
        " self seed, t - 1 times 48 for the coefficients of the self seed (the lowest power first),"
        " the same for the X25519 key, 24 for r_i, t times 24 for the coefficients of r_i."
    )
    bad = [*_bad_uploads(driven), *_bad_answers(driven)]
    return topic(what, "5 to 11", [case("round", name, given, output)], bad)


def _bad_uploads(driven: Driven) -> list[Json]:
    one, other = driven.uploads["alpha"], driven.uploads["bravo"]
    right = {
        "peer": "alpha",
        "header": message_json(one.header),
        "announcement": message_json(one.announcement),
        "vector": one.vector.hex(),
    }
    cases: dict[str, tuple[Json, str]] = {
        "another's header": ({"header": message_json(other.header)}, "bad_header"),
        "another's announcement": (
            {"announcement": message_json(other.announcement)},
            "bad_header",
        ),
        "no announcement": ({"announcement": None}, "bad_header"),
        "a vector too short": ({"vector": one.vector[:-1].hex()}, "wrong_length"),
        "from nobody in the cohort": ({"peer": "foxtrot"}, "not_in_cohort"),
        "a changed header": (
            {"header": message_json(one.header) | {"masked_failure": 0}},
            "bad_signature",
        ),
        "a second vector": ({"vector": other.vector.hex()}, "equivocation"),
    }
    return [
        refused("upload", name, right | change, reason) for name, (change, reason) in cases.items()
    ]


def _bad_answers(driven: Driven) -> list[Json]:
    right = message_json(driven.answers["alpha"])
    own, pair, dropped = right["self_shares"], right["pair_shares"], right["announcements"]
    flipped = own[0] | {"share": own[0]["share"][:-2] + f"{int(own[0]['share'][-2:], 16) ^ 1:02x}"}
    cases: dict[str, tuple[Json, str]] = {
        "a flipped bit in a share": ({"self_shares": [flipped, *own[1:]]}, "bad_share"),
        "a share of another dealer": (
            {"self_shares": [own[0] | {"dealer": own[1]["dealer"]}]},
            "bad_share",
        ),
        "both secrets of one dealer": (
            {"pair_shares": [pair[0] | {"dealer": own[0]["dealer"]}]},
            "bad_share",
        ),
        "another announcement of the dropped": (
            {"announcements": [dropped[0] | {"shares_root": "00" * 16}]},
            "bad_share",
        ),
        "the dropped peer's announcement with another signature": (
            {"announcements": [dropped[0] | {"signature": "11" * 64}]},
            "bad_share",
        ),
        "another's answer": ({"holder": 1}, "malformed"),
        "of another ticket": ({"ticket_digest": "00" * 32}, "malformed"),
        "more shares than neighbours": ({"self_shares": own * 2}, "malformed"),
    }
    return [
        refused("answer", name, {"peer": "alpha", "answer": right | change}, reason)
        for name, (change, reason) in cases.items()
    ]


def additive() -> Json:
    signed = three()
    ticket, keyring = signed.ticket, _keyring(signed)
    tapes = {peer: Tape(some(f"additive {peer}", 64)) for peer in ticket.cohort}
    entropy = {peer: tape.left.hex() for peer, tape in tapes.items()}
    rounds = {
        peer: AdditivePeerRound(signed, peer, signer_of(peer), tapes[peer])
        for peer in ticket.cohort
    }
    _, addends = _updates(signed)
    driven = Driven(rounds, AggregatorRound(signed, signer_of(AGGREGATOR), keyring), addends)
    total = driven.run()
    output = {
        "shares": [
            {"from": sender, "to": to, "vector": message.vector.hex()}
            for sender, to, message in sorted(driven.exchanged, key=lambda item: item[:2])
        ],
        "uploads": {
            peer: {"header": message_json(upload.header), "vector": upload.vector.hex()}
            for peer, upload in driven.uploads.items()
        },
        "total": total.tobytes().hex(),
    }
    given = {
        "ticket": "additive",
        "entropy": entropy,
        "addends": {peer: addend.tobytes().hex() for peer, addend in addends.items()},
    }
    what = (
        "A whole `additive` round. Each peer reads from its entropy the 32-byte seed of the share of each"
        " other peer, in cohort order."
    )
    return topic(what, "12", [case("round", "three peers", given, output)])


def evaluation_() -> Json:
    """No model in the vectors, and names that come out of the sum."""
    signed = evaluation(MetricNames(open=True))
    ticket, keyring = signed.ticket, _keyring(signed)
    addends, updates = {}, []
    for place, peer in enumerate(ticket.cohort):
        examples = 7 * place + 3
        values: Values = {"recall": [place / 8, -0.1], "loss": 1.0 / (place + 3)}
        words = ticket.metrics.encode(values, examples, len(ticket.cohort))
        addends[peer] = encode_update(
            ticket.quantiser,
            {},
            {},
            examples=examples,
            metrics=words,
            rounding=Secret(bytes(32)),
        )
        updates.append({"peer": peer, "examples": examples, "values": values_json(values)})
    tapes = {peer: Tape(some(f"evaluation {peer}", ENTROPY_BYTES)) for peer in ticket.cohort}
    entropy = {peer: tape.left.hex() for peer, tape in tapes.items()}
    rounds = {
        peer: PeerRound(signed, peer, Policy(), signer_of(peer), keyring, tapes[peer])
        for peer in ticket.cohort
    }
    driven = Driven(rounds, AggregatorRound(signed, signer_of(AGGREGATOR), keyring), addends)
    total = driven.run()
    _, counted = decode_update(ticket.quantiser, {}, total, len(ticket.cohort))
    output = {
        "addends": {peer: addend.tobytes().hex() for peer, addend in addends.items()},
        "uploads": {peer: upload.vector.hex() for peer, upload in driven.uploads.items()},
        "total": total.tobytes().hex(),
        "means": _means(ticket, total, counted),
    }
    given = {
        "ticket": "an evaluation whose metrics are not known yet",
        "entropy": entropy,
        "updates": updates,
    }
    what = "An evaluation by five peers, all of which report. Entropy is read as in `round`."
    return topic(what, "4 to 11", [case("round", "five peers", given, output)])


TOPICS = {"round": round_, "additive": additive, "evaluation": evaluation_}
