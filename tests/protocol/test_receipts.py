"""Receipts in one peer's view: what makes a dealer ready, and what is asked where one cannot be checked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from smpcfl.protocol.announcement import Announcement, Equivocation
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.receipts import (
    KNOWN_BYTES,
    MOST_RECEIPTS,
    ListReply,
    ListRequest,
    Receipt,
    Receipts,
    receipt_bytes,
)
from smpcfl.protocol.signing import Keyring
from support.forge import round_of, second_announcement
from support.network import Network, make_ticket

N, THRESHOLD = 8, 5
ME, DEALER = 0, 7
NETWORK = Network(make_ticket(N), cheap=True)
NETWORK.start()
TICKET = NETWORK.ticket
ANNOUNCED = [round_of(NETWORK, index).announcement for index in range(N)]
OTHER = second_announcement(NETWORK, DEALER)
HASHES = [item.hash for item in ANNOUNCED]


class Counting:
    """How many signatures were verified, and of what."""

    def __init__(self) -> None:
        self.verified: list[str] = []

    def verify(self, name: str, message: bytes, signature: bytes) -> bool:
        self.verified.append(name)
        return NETWORK.keyring.verify(name, message, signature)


def view(
    me: int = ME, known: Iterable[Announcement] = ANNOUNCED, keyring: Keyring = NETWORK.keyring
) -> Receipts:
    """Of a peer that knows these announcements beside its own."""
    signer = NETWORK.signer_of(TICKET.cohort[me])
    made = Receipts(TICKET, me, keyring, signer, ANNOUNCED[me])
    for announcement in known:
        made.learn(announcement)
    return made


def receipt(
    holder: int, dealers: Iterable[int], number: int = 1, others: dict[int, bytes] | None = None
) -> Receipt:
    """Signed by the holder; over the first announcements of the dealers, unless given."""
    places = sorted({*dealers, holder})
    listed = {dealer: HASHES[dealer] for dealer in places} | (others or {})
    sign = NETWORK.signer_of(TICKET.cohort[holder])
    signature = sign(receipt_bytes(TICKET, holder, number, listed))
    return Receipt(holder, number, tuple(places), signature)


def only_question(receipts: Receipts, *, late: bool = False) -> tuple[int, ListRequest]:
    ((sender, found),) = receipts.doubted(late=late)
    return sender, receipts.question(found)


# -- what makes a dealer ready ------------------------------------------------------------------------


def test_t_holders_make_a_dealer_ready_and_fewer_do_not() -> None:
    receipts = view()
    for holder in range(1, THRESHOLD):
        receipts.take(holder, receipt(holder, [DEALER]))
    assert not receipts.is_ready(DEALER)
    receipts.take(THRESHOLD, receipt(THRESHOLD, [DEALER]))
    assert receipts.is_ready(DEALER)
    assert receipts.announcement(DEALER) == ANNOUNCED[DEALER]


def test_a_peer_is_one_of_the_holders_by_its_own_receipt() -> None:
    receipts = view()
    receipts.sign([DEALER])
    for holder in range(1, THRESHOLD):
        receipts.take(holder, receipt(holder, [DEALER]))
    assert receipts.is_ready(DEALER)


def test_a_dealer_is_no_holder_of_its_own() -> None:
    receipts = view()
    for holder in (*range(1, THRESHOLD), DEALER):
        receipts.take(holder, receipt(holder, [DEALER]))
    assert not receipts.is_ready(DEALER)


def test_a_holder_counts_once_however_many_receipts_it_signs() -> None:
    receipts = view()
    for number in range(1, MOST_RECEIPTS + 1):
        for holder in range(1, THRESHOLD):
            receipts.take(holder, receipt(holder, [DEALER], number))
    assert not receipts.is_ready(DEALER)


def test_receipts_over_different_announcements_do_not_add_up() -> None:
    receipts = view(known=[*ANNOUNCED, OTHER])
    receipts.announcements.equivocations.clear()  # as if nobody had noticed
    for holder in range(1, THRESHOLD + 1):
        others = {DEALER: OTHER.hash} if holder > 2 else {}
        shown = receipt(holder, [DEALER], others=others)
        receipts.take(holder, shown)
        if others:
            _, question = only_question(receipts)
            receipts.take_list(holder, question, ListReply((OTHER,)))
    assert not receipts.is_ready(DEALER)


def test_of_a_shrinking_receipt_the_union_counts() -> None:
    receipts = view()
    for holder in range(1, THRESHOLD + 1):
        receipts.take(holder, receipt(holder, [DEALER]))
        receipts.take(holder, receipt(holder, [6], number=2))
    assert receipts.is_ready(DEALER)
    assert receipts.is_ready(6)


def test_an_older_receipt_that_comes_later_changes_nothing_and_is_not_verified() -> None:
    keyring = Counting()
    receipts = view(keyring=keyring)
    keyring.verified.clear()
    receipts.take(1, receipt(1, [2, 3], number=2))
    receipts.take(1, receipt(1, [2]))
    receipts.take(4, receipt(1, [2, 3], number=2))
    assert receipts.number(1) == 2
    assert keyring.verified == [TICKET.cohort[1]]


def test_each_receipt_and_announcement_is_verified_once() -> None:
    keyring = Counting()
    receipts = view(keyring=keyring)
    for _ in range(2):
        for holder in range(1, N):
            receipts.take(holder, receipt(holder, range(N)))
            receipts.learn(ANNOUNCED[holder])
    assert sorted(keyring.verified) == sorted([*TICKET.cohort[1:]] * 2)


def test_a_holder_that_names_two_announcements_confirmed_the_first() -> None:
    receipts = view(known=[*ANNOUNCED, OTHER])
    receipts.take(1, receipt(1, [DEALER]))
    receipts.take(1, receipt(1, [DEALER], 2, others={DEALER: OTHER.hash}))
    _, question = only_question(receipts)
    receipts.take_list(1, question, ListReply((OTHER,)))
    assert receipts.number(1) == 2
    assert receipts._holders[OTHER.hash] == 0


def test_what_a_survivors_header_must_name_is_what_t_receipts_cover() -> None:
    receipts = view(known=[*ANNOUNCED[:DEALER], OTHER])
    assert receipts.hashes() == {i: OTHER.hash if i == DEALER else HASHES[i] for i in range(N)}
    for holder in range(1, THRESHOLD + 1):
        receipts.take(holder, receipt(holder, [DEALER]))
        sender, question = only_question(receipts)
        receipts.take_list(sender, question, ListReply((ANNOUNCED[DEALER],)))
    assert receipts.hashes() == dict(enumerate(HASHES))
    assert not receipts.is_ready(DEALER), "it made two announcements"


def test_a_receipt_beyond_the_cohort_is_refused() -> None:
    with pytest.raises(RemoteError) as error:
        view().take(1, Receipt(1, 1, (1, N), bytes(64)))
    assert error.value.reason is Reason.NOT_IN_COHORT


def test_a_receipt_in_ones_own_name_is_not_even_looked_at() -> None:
    keyring = Counting()
    receipts = view(keyring=keyring)
    keyring.verified.clear()
    receipts.take(1, receipt(ME, [DEALER]))
    assert receipts.own is None
    assert keyring.verified == []


# -- what cannot be checked -----------------------------------------------------------------------------


FORGED = {
    "of another holder": lambda: replace(receipt(2, [1, 3]), holder=1),
    "with another number": lambda: replace(receipt(1, [2, 3]), number=2),
    "with a dealer more": lambda: replace(receipt(1, [2, 3]), dealers=(1, 2, 3, 4)),
    "with a dealer less": lambda: replace(receipt(1, [2, 3]), dealers=(1, 2)),
    "garbage": lambda: Receipt(1, 1, (1, 2), bytes(64)),
}


@pytest.mark.parametrize("name", FORGED)
def test_who_cannot_show_what_it_sent_is_named_and_not_asked_again(name: str) -> None:
    receipts, forged = view(), FORGED[name]()
    receipts.take(5, forged)
    sender, question = only_question(receipts)
    assert (sender, question.holder, question.number) == (5, 1, forged.number)
    with pytest.raises(RemoteError) as error:
        receipts.take_list(5, question, ListReply(()))
    assert (error.value.reason, error.value.peer) == (Reason.BAD_RECEIPT, TICKET.cohort[5])
    receipts.take(5, forged)
    assert not list(receipts.doubted(late=True))
    assert receipts.number(1) == 0
    receipts.take(1, receipt(1, [2]))
    assert receipts.number(1) == 1, "the true one still counts"


def test_a_receipt_of_another_ticket_counts_as_none() -> None:
    other = Network(make_ticket(N, serial=2), cheap=True)
    listed = {1: HASHES[1], 2: HASHES[2]}
    signature = NETWORK.signer_of(TICKET.cohort[1])(receipt_bytes(other.ticket, 1, 1, listed))
    receipts = view()
    receipts.take(1, Receipt(1, 1, (1, 2), signature))
    assert receipts.number(1) == 0
    with pytest.raises(RemoteError):
        receipts.take_list(1, only_question(receipts)[1], ListReply(()))


def test_an_announcement_that_is_missing_is_waited_for_and_then_asked_for() -> None:
    receipts = view(known=ANNOUNCED[:DEALER])
    receipts.take(1, receipt(1, [2, DEALER]))
    assert not list(receipts.doubted(late=False))
    sender, question = only_question(receipts, late=True)
    assert sender == 1
    assert question.known == tuple((i, HASHES[i][:KNOWN_BYTES]) for i in (1, 2))
    receipts.learn(ANNOUNCED[DEALER])
    assert not list(receipts.doubted(late=True)), "it came from its dealer"
    assert receipts.confirms(1, DEALER)


def test_the_answer_shows_what_the_asker_lacks_and_nothing_else() -> None:
    asking, asked = view(known=ANNOUNCED[:DEALER]), view(me=1)
    asked.sign(range(N))
    assert asked.own is not None
    asking.take(1, asked.own)
    sender, question = only_question(asking, late=True)
    reply = asked.show(question)
    assert reply.announcements == (ANNOUNCED[DEALER],)
    asking.take_list(sender, question, reply)
    assert asking.confirms(1, DEALER)
    assert asking.number(1) == 1


def test_one_answer_is_the_answer_to_all_receipts_that_wait_for_the_same() -> None:
    receipts = view(known=ANNOUNCED[:DEALER])
    for holder in range(1, 4):
        receipts.take(holder, receipt(holder, [DEALER]))
    sender, found = next(receipts.doubted(late=True))
    question = receipts.question(found)
    receipts.take_list(sender, question, ListReply((ANNOUNCED[DEALER],)))
    assert [receipts.number(holder) for holder in range(1, 4)] == [1, 1, 1]
    assert not list(receipts.doubted(late=True))


def test_of_two_announcements_each_half_is_shown_the_others_and_has_the_proof() -> None:
    """The receipt counts for all others, and the dealer for nobody."""
    asking, asked = view(), view(me=1, known=[*ANNOUNCED[:DEALER], OTHER])
    asked.sign(range(N))
    assert asked.own is not None
    asking.take(1, asked.own)
    sender, question = only_question(asking)  # at once
    asking.take_list(sender, question, asked.show(question))
    assert asking.number(1) == 1
    assert all(asking.confirms(1, dealer) for dealer in range(N) if dealer != 1)
    assert asking.announcements.equivocations == {DEALER: Equivocation(ANNOUNCED[DEALER], OTHER)}
    for holder in range(2, 2 + THRESHOLD):
        asking.take(holder, receipt(holder, range(N)))
    assert asking.is_ready(6)
    assert not asking.is_ready(DEALER)


def test_a_relayed_receipt_is_shown_by_who_relays_it() -> None:
    first, second = view(), view(known=[*ANNOUNCED[:DEALER], OTHER])
    shown = receipt(2, [1, DEALER])
    first.take(2, shown)
    (relayed,) = first.newer(second.numbers, without=3)
    second.take(1, relayed)
    sender, question = only_question(second)
    assert sender == 1
    second.take_list(sender, question, first.show(question))
    assert second.number(2) == 1


def test_who_does_not_hold_a_receipt_shows_nothing_of_it() -> None:
    receipts = view()
    receipts.take(1, receipt(1, [2]))
    for holder, number in ((1, 2), (2, 1), (99, 1)):
        asked = ListRequest(TICKET.digest, holder, number, ())
        assert receipts.show(asked) == ListReply(())


LIES = {
    "a forged announcement": lambda: (replace(OTHER, signature=bytes(64)),),
    "another's announcement": lambda: (ANNOUNCED[3],),
    "nothing": lambda: (),
}


@pytest.mark.parametrize("name", LIES)
def test_a_list_that_is_not_the_one_signed_names_who_sent_it(name: str) -> None:
    """And nobody whose announcement was forged in it."""
    receipts = view()
    receipts.take(2, receipt(1, [DEALER], others={DEALER: OTHER.hash}))
    with pytest.raises(RemoteError) as error:
        receipts.take_list(2, only_question(receipts)[1], ListReply(LIES[name]()))
    assert (error.value.reason, error.value.peer) == (Reason.BAD_RECEIPT, TICKET.cohort[2])
    assert not receipts.announcements.equivocations
    assert receipts.number(1) == 0


def test_nothing_is_kept_of_a_list_that_no_holder_signed() -> None:
    """Else a dealer could fill the memory with announcements, by way of a friend."""
    receipts = view()
    receipts.take(2, Receipt(1, 1, (1, DEALER), bytes(64)))
    with pytest.raises(RemoteError):
        receipts.take_list(2, only_question(receipts)[1], ListReply((OTHER,)))
    assert not receipts.announcements.equivocations


def test_an_answer_that_comes_too_late_changes_nothing() -> None:
    receipts = view(known=ANNOUNCED[:DEALER])
    receipts.take(1, receipt(1, [DEALER]))
    _, question = only_question(receipts, late=True)
    receipts.take(1, receipt(1, [2], number=2))  # which needs no list
    receipts.take_list(1, question, ListReply(()))
    assert receipts.number(1) == 2


def test_a_newer_receipt_is_still_asked_about_when_an_older_one_was_verified() -> None:
    receipts = view(known=ANNOUNCED[:DEALER])
    receipts.take(1, receipt(1, [2, DEALER], number=2))
    receipts.take(5, receipt(1, [2]))
    assert receipts.number(1) == 1
    sender, question = only_question(receipts, late=True)
    assert (sender, question.number) == (1, 2)


def test_more_of_a_hash_is_known_than_a_dealer_can_find_twice() -> None:
    assert KNOWN_BYTES == 16


# -- what is lacking ------------------------------------------------------------------------------------


def test_newer_receipts_are_relayed_and_no_others() -> None:
    receipts = view()
    receipts.sign([1])
    for holder, number in ((1, 2), (2, 1), (3, 3)):
        receipts.take(holder, receipt(holder, [4], number))
    found = receipts.newer([(1, 1), (2, 1)], without=5)
    assert [(item.holder, item.number) for item in found] == [(1, 2), (3, 3)]
    assert [item.holder for item in receipts.newer([], without=3)] == [1, 2]
    assert receipts.numbers == ((0, 1), (1, 2), (2, 1), (3, 3))


def test_receipts_are_lacking_while_they_could_make_a_dealer_ready() -> None:
    receipts = view()
    assert receipts.may_lack()
    for holder in range(1, N - 1):
        receipts.take(holder, receipt(holder, range(N)))
    assert not receipts.may_lack(), "all are ready, though one receipt is missing"


def test_nothing_is_lacking_of_a_dealer_whom_nobody_met() -> None:
    receipts = view(known=ANNOUNCED[:DEALER])
    for holder in range(1, DEALER):
        receipts.take(holder, receipt(holder, range(DEALER)))
    assert not receipts.may_lack()


def test_nothing_is_lacking_once_no_holder_can_say_more() -> None:
    receipts = view()
    for holder in range(1, N):
        receipts.take(holder, receipt(holder, range(DEALER), number=MOST_RECEIPTS))
    assert not receipts.is_ready(DEALER)
    assert not receipts.may_lack()


def test_nothing_is_lacking_of_who_made_two_announcements() -> None:
    receipts = view(known=[*ANNOUNCED, OTHER])
    for holder in range(1, N):
        receipts.take(holder, receipt(holder, range(DEALER)))
    assert not receipts.may_lack()
