"""Known answers of receipts: what is signed, what makes a dealer ready, and what lists lead to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from smpcfl.protocol.announcement import Announcement, sign_announcement
from smpcfl.protocol.receipts import Receipt, receipt_bytes
from vectors.files import Json, case, refused, topic
from vectors.given import COHORT, message_json, signer_of, some
from vectors.make_survivors import TICKET

ALPHA, BRAVO, CHARLIE, DELTA, ECHO = range(5)
ME = DELTA


def announcement(dealer: int, which: str = "first") -> Announcement:
    parts = (some(f"{which} {what} {dealer}", size) for what, size in _PARTS)
    return sign_announcement(TICKET, dealer, *parts, signer_of(COHORT[dealer]))


_PARTS = (("public key", 32), ("commitment", 32), ("root", 16))
FIRST = [announcement(dealer) for dealer in range(5)]
SECOND = announcement(ECHO, "second")


def receipt(
    holder: int, dealers: Iterable[int], number: int = 1, *, second: bool = False
) -> Receipt:
    """`second`: echo's second announcement is the one that the holder has."""
    listed = {dealer: FIRST[dealer].hash for dealer in sorted({*dealers, holder})}
    if second:
        listed[ECHO] = SECOND.hash
    signature = signer_of(COHORT[holder])(receipt_bytes(TICKET, holder, number, listed))
    return Receipt(holder, number, tuple(listed), signature)


def _view(receipts: Json) -> Json:
    """What delta has: all announcements but those that are left out, and these receipts."""
    return {
        "ticket": "five peers",
        "me": ME,
        "announcements": [message_json(item) for item in FIRST],
        "own": None,
    } | receipts


def _sent(*receipts: Receipt) -> list[Json]:
    """Each by its holder."""
    return [{"from": item.holder, "receipt": message_json(item)} for item in receipts]


def _ready() -> list[Json]:
    three = [receipt(holder, [ALPHA]) for holder in (BRAVO, CHARLIE, ECHO)]
    by_name: dict[str, tuple[Json, list[int]]] = {
        "three holders": ({"receipts": _sent(*three)}, [ALPHA]),
        "two": ({"receipts": _sent(*three[:2])}, []),
        "two, and this peer's own": ({"receipts": _sent(*three[:2]), "own": [ALPHA]}, [ALPHA]),
        "two, and the dealer's own": ({"receipts": _sent(*three[:2], receipt(ALPHA, []))}, []),
        "two, of whom one signed two": (
            {"receipts": _sent(*three[:2], receipt(BRAVO, [ALPHA, CHARLIE], 2))},
            [],
        ),
        "of one that takes it back in a second one": (
            {"receipts": _sent(*three, receipt(BRAVO, [], 2))},
            [ALPHA],
        ),
        "one of them relayed": (
            {"receipts": [*_sent(*three[:2]), {"from": BRAVO, "receipt": message_json(three[2])}]},
            [ALPHA],
        ),
    }
    return [
        case("ready", name, _view(given), {"ready": ready})
        for name, (given, ready) in by_name.items()
    ]


def _lists() -> list[Json]:
    other, missing = receipt(BRAVO, [ALPHA, ECHO], second=True), receipt(BRAVO, [ALPHA, ECHO])
    cases = {
        "another announcement of a dealer": (FIRST, other, [SECOND], [ECHO]),
        "an announcement that is missing": (FIRST[:ECHO], missing, [FIRST[ECHO]], []),
    }
    return [
        case(
            "list",
            name,
            _view({"announcements": [message_json(item) for item in known]})
            | {"from": BRAVO, "receipt": message_json(found)}
            | {"shown": [message_json(item) for item in shown]},
            {
                "known": [
                    [index, item.hash[:16].hex()]
                    for index, item in enumerate(known)
                    if index in found.dealers
                ],
                "confirmed": [ALPHA, ECHO],
                "equivocations": equivocations,
            },
        )
        for name, (known, found, shown, equivocations) in cases.items()
    ]


def _bad_lists() -> list[Json]:
    other = receipt(BRAVO, [ALPHA, ECHO], second=True)
    forged = replace(SECOND, signature=bytes(64))
    unsigned = Receipt(BRAVO, 1, (ALPHA, BRAVO), bytes(64))
    cases = {
        "nothing is shown": (other, []),
        "the announcement that is known": (other, [FIRST[ECHO]]),
        "a forged announcement": (other, [forged]),
        "a receipt that nobody signed": (unsigned, []),
        "a receipt of another number": (
            Receipt(BRAVO, 2, other.dealers, other.signature),
            [SECOND],
        ),
    }
    return [
        refused(
            "list",
            name,
            _view({"from": BRAVO, "receipt": message_json(found)})
            | {"shown": [message_json(item) for item in shown]},
            "bad_receipt",
        )
        for name, (found, shown) in cases.items()
    ]


def receipts() -> Json:
    signed = [
        case(
            "signed",
            name,
            {
                "ticket": "five peers",
                "holder": holder,
                "number": number,
                "listed": [[dealer, FIRST[dealer].hash.hex()] for dealer in dealers],
            },
            {
                "bytes": receipt_bytes(
                    TICKET, holder, number, {dealer: FIRST[dealer].hash for dealer in dealers}
                ).hex()
            },
        )
        for name, holder, number, dealers in (
            ("over all", BRAVO, 1, range(5)),
            ("over two and its own, the third", ECHO, 3, (ALPHA, CHARLIE, ECHO)),
            ("over its own alone", ALPHA, 1, (ALPHA,)),
        )
    ]
    what = (
        "Receipts. `me` is the peer whose view it is; `announcements` are those that it knows, in the"
        " order in which they came; `own` are the dealers that it signed for itself. In `list` it asks"
        " whoever it has the receipt from, and says what it knows; `shown` is the answer."
    )
    return topic(what, "7", [*signed, *_ready(), *_lists()], _bad_lists())


TOPICS = {"receipts": receipts}
