"""Known answers of the survivor set: how it is chosen, checked and counted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any

from smpcfl.protocol.messages import Header, Survivors, headers_digest, survivors_bytes
from smpcfl.protocol.signing import AGGREGATOR
from smpcfl.protocol.survivors import choose_survivors, survivors_digest
from vectors.files import Json, case, refused, topic
from vectors.given import COHORT, five, message_json, signer_of, some

TICKET = five().ticket
LOW = five(threshold=2).ticket
HASHES = [some(f"announcement hash {place}", 32) for place in range(5)]


def _signed_header(
    sender: int,
    counting: Iterable[int],
    *,
    others: dict[int, bytes] | None = None,
    ticket_digest: bytes = TICKET.digest,
    by: str | None = None,
) -> Header:
    named = tuple((j, (others or {}).get(j, HASHES[j] if j < 5 else bytes(32))) for j in counting)
    unsigned = Header(ticket_digest, sender, HASHES[sender], named, bytes(64), 1000 + sender)
    return replace(unsigned, signature=signer_of(by or COHORT[sender])(unsigned.signed_bytes))


def _all_but(sender: int, *left_out: int) -> list[int]:
    return [j for j in range(5) if j != sender and j not in left_out]


def survivors_of(
    members: tuple[int, ...] = (0, 1, 2, 3),
    headers: dict[int, Header] | None = None,
    by: str = AGGREGATOR,
    **changes: Any,
) -> Survivors:
    """As the aggregator would sign it; `headers` replace those that list everyone."""
    chosen = {j: _signed_header(j, _all_but(j)) for j in members if j < 5} | (headers or {})
    found = tuple(item for _, item in sorted(chosen.items()))
    digest = changes.get("headers_digest", headers_digest(found))
    signed = b"" if max(members) > 4 else survivors_bytes(TICKET, members, digest)
    message = Survivors(TICKET.digest, members, found, digest, signer_of(by)(signed))
    return replace(message, **changes)


def survivors() -> Json:
    right = survivors_of()
    known = {"known": {str(j): HASHES[j].hex() for j in range(5)}}
    base = {"ticket": "five peers", **known}
    vectors = [
        case(
            "check",
            "four of five",
            base | {"message": message_json(right)},
            {"digest": survivors_digest(TICKET, right).hex()},
        )
    ]
    vectors += [
        case(
            "choose",
            name,
            {"ticket": "a low threshold", "headers": [message_json(item) for item in found]},
            {"survivors": sorted(choose_survivors(LOW, {item.sender: item for item in found}))},
        )
        for name, found in _uploaded().items()
    ]
    h = _signed_header
    cases: list[tuple[str, Survivors, str]] = [
        ("of another ticket", replace(right, ticket_digest=bytes(32)), "unknown_ticket"),
        ("beyond the cohort", survivors_of((0, 1, 2, 5)), "not_in_cohort"),
        ("signed by a peer", survivors_of(by="alpha"), "bad_signature"),
        (
            "a survivor more than was signed",
            replace(right, survivors=(0, 1, 2, 3, 4)),
            "bad_signature",
        ),
        ("two", survivors_of((0, 1)), "too_few_survivors"),
        ("another digest of the headers", survivors_of(headers_digest=bytes(32)), "bad_header"),
        ("a header missing", _without(right, 3), "bad_header"),
        (
            "a header of another ticket",
            survivors_of(headers={1: h(1, _all_but(1), ticket_digest=bytes(32))}),
            "unknown_ticket",
        ),
        (
            "a header signed by another",
            survivors_of(headers={1: h(1, _all_but(1), by="echo")}),
            "bad_signature",
        ),
        (
            "a header that lists nobody's index",
            survivors_of(headers={1: h(1, [0, 2, 3, 5])}),
            "not_a_neighbour",
        ),
        (
            "a header that names another announcement",
            survivors_of(headers={1: h(1, _all_but(1), others={4: bytes(32)})}),
            "bad_header",
        ),
        (
            "one lists the other, and not the reverse",
            survivors_of(headers={1: h(1, _all_but(1, 0))}),
            "one_sided_pair",
        ),
        (
            "fewer than t mutual neighbours",
            survivors_of(headers={0: h(0, _all_but(0, 1)), 1: h(1, _all_but(1, 0))}),
            "isolated_survivor",
        ),
    ]
    bad = [
        refused("check", name, base | {"message": message_json(item)}, reason)
        for name, item, reason in cases
    ]
    unordered = message_json(right) | {"survivors": [1, 0, 2, 3]}
    bad.append(refused("check", "out of order", base | {"message": unordered}, "malformed"))
    bad += _bad_counts()
    what = "Which uploads are summed: the aggregator's choice, and what a peer requires of it."
    return topic(what, "9", vectors, bad)


def _without(item: Survivors, sender: int) -> Survivors:
    found = tuple(header for header in item.headers if header.sender != sender)
    digest = headers_digest(found)
    signature = signer_of(AGGREGATOR)(survivors_bytes(TICKET, item.survivors, digest))
    return replace(item, headers=found, headers_digest=digest, signature=signature)


def _uploaded() -> dict[str, list[Header]]:
    h = partial(_signed_header, ticket_digest=LOW.digest)
    everyone = [h(j, _all_but(j)) for j in range(5)]
    return {
        "all five": everyone,
        "one did not upload": everyone[:4],
        "one pair is one-sided": [h(0, _all_but(0, 1)), *everyone[1:]],
        "two name different announcements of a third": [
            h(0, _all_but(0), others={4: bytes(32)}),
            *everyone[1:4],
        ],
        "the last one names another announcement of a third": [
            *everyone[:3],
            h(3, _all_but(3), others={4: b"\1" * 32}),
        ],
        "one has too few mutual neighbours": [
            h(0, [4]),
            h(1, _all_but(1, 0)),
            h(2, _all_but(2, 0)),
            h(3, _all_but(3, 0)),
            everyone[4],
        ],
        "too few could count the failures": [
            h(0, _all_but(0, 1)),
            h(1, _all_but(1, 0)),
            h(2, _all_but(2, 3)),
            h(3, _all_but(3, 2)),
            everyone[4],
        ],
        "nobody uploaded": [],
    }


def _bad_counts() -> list[Json]:
    """Sums of failure shares that leave too few contributors, or no count at all. All r_i are 0 here."""
    given = {"ticket": "five peers", "survivors": [0, 1, 2, 3]}
    zero = {str(j): 0 for j in range(4)}
    return [
        refused(
            "contributors", name, given | {"masked": masked, "sums": sums}, "too_few_contributors"
        )
        for name, masked, sums in (
            ("two of four failed", [1, 1, 0, 0], zero),
            ("a count above the survivors", [1, 1, 1, 2], zero),
            ("a false sum", [0, 0, 0, 0], zero | {"3": 1}),
        )
    ]


TOPICS = {"survivors": survivors}
