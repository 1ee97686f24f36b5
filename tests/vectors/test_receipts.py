"""Receipts, and the lists behind them, are as the file of known answers says."""

from __future__ import annotations

import pytest

from smpcfl.protocol.receipts import ListRequest, Receipts, receipt_bytes
from smpcfl.protocol.signing import signer
from vectors import reading, reference
from vectors.files import Json, bad, good
from vectors.reading import key_of, keyring, raw, refuses, ticket


@pytest.mark.parametrize(("given", "found"), good("receipts", "signed"))
def test_what_a_holder_signs(given: Json, found: Json) -> None:
    one, listed = ticket(given["ticket"]), {dealer: raw(h) for dealer, h in given["listed"]}
    parts = given["holder"], given["number"], listed
    assert receipt_bytes(one, *parts).hex() == found["bytes"]
    assert reference.receipt(one.digest, len(one.cohort), *parts).hex() == found["bytes"]


def view(given: Json) -> Receipts:
    one, me = ticket(given["ticket"]), given["me"]
    announced = [reading.announcement(item) for item in given["announcements"]]
    sign = signer(key_of(one.cohort[me]), deterministic=True)
    receipts = Receipts(one, me, keyring(), sign, announced[me])
    for announcement in announced:
        receipts.learn(announcement)
    if given["own"] is not None:
        receipts.sign(given["own"])
    return receipts


@pytest.mark.parametrize(("given", "found"), good("receipts", "ready"))
def test_who_is_ready(given: Json, found: Json) -> None:
    receipts = view(given)
    for item in given["receipts"]:
        receipts.take(item["from"], reading.receipt(item["receipt"]))
    assert not list(receipts.doubted(late=True))
    assert [dealer for dealer in range(5) if receipts.is_ready(dealer)] == found["ready"]


def asked(given: Json, receipts: Receipts) -> ListRequest:
    receipts.take(given["from"], reading.receipt(given["receipt"]))
    ((sender, receipt),) = receipts.doubted(late=True)
    assert sender == given["from"]
    return receipts.question(receipt)


@pytest.mark.parametrize(("given", "found"), good("receipts", "list"))
def test_what_a_list_shows(given: Json, found: Json) -> None:
    receipts, shown = view(given), reading.list_reply({"announcements": given["shown"]})
    question = asked(given, receipts)
    assert question.known == tuple((dealer, raw(known)) for dealer, known in found["known"])
    receipts.take_list(given["from"], question, shown)
    holder = given["receipt"]["holder"]
    assert [d for d in range(5) if receipts.confirms(holder, d)] == found["confirmed"]
    assert sorted(receipts.announcements.equivocations) == found["equivocations"]


@pytest.mark.parametrize(("given", "reason"), bad("receipts", "list"))
def test_lists_that_are_refused(given: Json, reason: str) -> None:
    receipts, shown = view(given), reading.list_reply({"announcements": given["shown"]})
    question = asked(given, receipts)
    refuses(reason, lambda: receipts.take_list(given["from"], question, shown))
