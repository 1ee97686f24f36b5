"""Lies about who confirmed whom: withheld, shrinking, replayed and forged receipts, and lists withheld.

None voids a round within tolerance; the builds without a check lose the round, or a peer that did nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest

from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.messages import Call, PeerMessage, Ready, ReadyReply
from smpcfl.protocol.peer_round import PeerRound
from smpcfl.protocol.receipts import ListReply, ListRequest, Receipt, Receipts, receipt_bytes
from support.forge import round_of
from support.liars import LIAR, NAME, PEERS, Patient, outcome, refused, with_liar
from support.network import Network, make_ticket
from support.two_faced import TwoFaced, TwoFacedToFew
from support.weakened import one_is

# With two of eight lost, everyone else is at its tolerance: each dealer has as many holders as it needs.
LOST = dict.fromkeys(PEERS[6:], "exchange")
TOO_FEW = (Reason.TOO_FEW_SURVIVORS, "")


def liar_counts(network: Network, dealer: int) -> set[bool]:
    """Whether the liar is one of this dealer's holders, in the views of the others."""
    announced = round_of(network, dealer).announcement.hash
    others = [round_of(network, index) for index in range(8) if index != LIAR]
    return {round_._receipts._confirmed.get(LIAR, {}).get(dealer) == announced for round_ in others}


class SaysOtherwise(PeerRound):
    """Changes what it says in ready, to whom it likes."""

    def ready(self, sender: str, message: Ready, now: float) -> ReadyReply:
        return self.turned(super().ready(sender, message, now), self.ticket.index(sender))

    def calls(self, now: float) -> list[Call]:
        return [
            replace(call, message=self.turned(call.message, self.ticket.index(call.to)))
            for call in super().calls(now)
        ]

    def turned(self, message: Any, to: int) -> Any:
        if isinstance(message, Ready | ReadyReply) and message.receipt is not None:
            self._of[to].delivered = message.receipt.number  # as far as it is concerned
            return replace(message, receipt=self.shown(message.receipt, to))
        return message

    def shown(self, receipt: Receipt, to: int) -> Receipt | None:
        return receipt

    def signed(self, number: int, dealers: list[int], ticket: Any = None) -> Receipt:
        first = self._receipts.announcements.first
        listed = {dealer: first[dealer].hash for dealer in sorted({*dealers, self.me})}
        signature = self._signer(receipt_bytes(ticket or self.ticket, self.me, number, listed))
        return Receipt(self.me, number, tuple(listed), signature)


# -- two announcements ----------------------------------------------------------------------------------


@contextmanager
def nobody_asks_for_lists() -> Iterator[None]:
    with patch.object(Receipts, "doubted", lambda self, *, late: ()):
        yield


@pytest.mark.parametrize("kind", [TwoFaced, TwoFacedToFew])
def test_a_dealer_with_two_announcements_costs_nobody_else_the_round(kind: type[PeerRound]) -> None:
    network = with_liar(kind)
    assert outcome(network) == "right"
    assert network.survivors == [peer for peer in PEERS if peer != NAME]
    assert refused(network) == {(Reason.EQUIVOCATION, NAME)}


@pytest.mark.parametrize(
    ("kind", "losing"), [(TwoFaced, TOO_FEW), (TwoFacedToFew, [PEERS[6], PEERS[7]])]
)
def test_it_costs_others_the_round_where_nobody_asks_for_lists(
    kind: type[PeerRound], losing: Any
) -> None:
    """Who has one announcement cannot check the receipts of those who have the other, and counts nobody."""
    with nobody_asks_for_lists():
        network = with_liar(kind)
        found = outcome(network)
    assert losing == (
        found if found != "right" else [peer for peer in PEERS if peer not in network.survivors]
    )


def test_the_proof_reaches_who_cannot_see_it_itself() -> None:
    """Two holders of one announcement hear of nobody else's receipts but by each other's."""
    network = with_liar(TwoFacedToFew, cut={(PEERS[0], NAME), (NAME, PEERS[0])})
    assert outcome(network) == "right"
    assert LIAR in round_of(network, 0)._receipts.announcements.equivocations


def second_face_is_missed() -> Network:
    """The few with the second face hold another announcement than t receipts cover.

    It counts all the same, as where the proof comes too late, and vanishes.
    """
    network = with_liar(TwoFacedToFew, lost={NAME: "train"})
    with patch.object(Receipts, "is_ready", lambda self, dealer: dealer in self._covered):
        return network.until("upload")


def test_a_second_announcement_that_is_found_too_late_voids_no_round() -> None:
    """Headers must name what t receipts cover, not what a peer happens to hold."""
    network = second_face_is_missed()
    listing = [peer for peer, u in network.uploads.items() if LIAR in u.header.counts]
    assert len(listing) >= network.ticket.threshold
    total = network.unmask()
    assert total == network.expected()
    assert not {reason for reason, _ in refused(network)} & {Reason.BAD_HEADER, Reason.BAD_SHARE}


def test_it_voids_the_round_where_headers_must_name_what_a_peer_holds() -> None:
    """The few refuse all headers, and the others are too few to agree and to count the failures."""

    def what_came_first(self: Receipts) -> dict[int, bytes]:
        return {dealer: item.hash for dealer, item in self.announcements.first.items()}

    with patch.object(Receipts, "hashes", what_came_first):
        network = second_face_is_missed()
        with pytest.raises(RemoteError) as error:
            network.unmask()
    assert error.value.reason is Reason.TOO_FEW_ANSWERS
    assert (Reason.BAD_HEADER, "") in refused(network)


# -- withheld -------------------------------------------------------------------------------------------


class Withholding(SaysOtherwise):
    """Shows its receipt to one neighbour alone; everyone needs it."""

    def shown(self, receipt: Receipt, to: int) -> Receipt | None:
        return receipt if to == 0 else None


@contextmanager
def nobody_relays() -> Iterator[None]:
    with patch.object(Receipts, "newer", lambda self, have, without: ()):
        yield


def test_a_receipt_that_is_withheld_is_relayed_by_who_has_it() -> None:
    network = with_liar(Withholding, lost=LOST)
    assert outcome(network) == "right"
    assert network.survivors == list(PEERS[:6])
    assert not refused(network)


def test_it_costs_the_round_where_nobody_relays() -> None:
    with nobody_relays():
        assert outcome(with_liar(Withholding, lost=LOST)) == TOO_FEW


class Silent(SaysOtherwise):
    """Signs nothing for anybody."""

    def shown(self, receipt: Receipt, to: int) -> Receipt | None:
        return None


def test_a_receipt_that_nobody_is_shown_is_one_loss_like_any_other() -> None:
    assert outcome(with_liar(Silent, lost={PEERS[7]: "exchange"})) == "right"
    assert outcome(with_liar(Silent, lost=LOST)) == TOO_FEW


# -- shrinking ------------------------------------------------------------------------------------------


class Shrinking(SaysOtherwise):
    """Takes back in a second receipt, which goes to some of its neighbours, what it said in the first."""

    def _sign_receipt(self, now: float) -> None:
        if self._receipts.own is None:
            super()._sign_receipt(now)
        elif now * 1000 >= self.ticket.deadlines.ready and self._receipts.number(self.me) == 1:
            self._receipts.sign([0])


@contextmanager
def the_newest_alone_counts() -> Iterator[None]:
    keep = Receipts._keep

    def forgetting(self: Receipts, receipt: Receipt, listed: dict[int, bytes]) -> None:
        for dealer, found in self._confirmed.pop(receipt.holder, {}).items():
            self._holders[found] -= 1
            if self._holders[found] < self._ticket.threshold:
                self._covered.pop(dealer, None)
        keep(self, receipt, listed)

    with patch.object(Receipts, "_keep", forgetting):
        yield


def shrinking() -> Network:
    return with_liar(Shrinking, lost=LOST)


def test_what_a_holder_said_once_cannot_be_taken_back() -> None:
    network = shrinking()
    assert outcome(network) == "right"
    assert round_of(network, 0)._receipts.number(LIAR) == 2


def test_it_voids_the_round_where_the_newest_receipt_alone_counts() -> None:
    with the_newest_alone_counts():
        assert outcome(shrinking()) == TOO_FEW


# -- of another ticket, or nobody's ---------------------------------------------------------------------


class Replaying(SaysOtherwise):
    """Shows a receipt over this round's announcements that it signed for another ticket."""

    def shown(self, receipt: Receipt, to: int) -> Receipt | None:
        other = make_ticket(8, serial=2).ticket
        return self.signed(receipt.number, list(receipt.dealers), other)


def test_a_receipt_of_another_ticket_is_as_good_as_none() -> None:
    network = with_liar(Replaying)
    assert outcome(network) == "right"
    assert refused(network) == {(Reason.BAD_RECEIPT, NAME)}
    assert liar_counts(network, 0) == {False}


def test_it_counts_where_receipts_are_not_verified() -> None:
    with patch.object(Receipts, "_is_signed", lambda *_: True):
        network = with_liar(Replaying)
        assert outcome(network) == "right"
        assert liar_counts(network, 0) == {True}


class Forging(SaysOtherwise):
    """Relays receipts in others' names, over whom they did not confirm, to whoever asks."""

    def ready(self, sender: str, message: Ready, now: float) -> ReadyReply:
        reply = super().ready(sender, message, now)
        forged = tuple(
            replace(self.signed(3, [*range(8)]), holder=holder)
            for holder in range(8)
            if holder not in (self.me, self.ticket.index(sender))
        )
        return replace(reply, relays=forged)


def with_forger() -> Network:
    """5 has too few holders: 0, 1 and 2 have not met it."""
    pairs = [(5, other) for other in (0, 1, 2)]
    cut = {(PEERS[a], PEERS[b]) for pair in pairs for a, b in (pair, pair[::-1])}
    return with_liar(Forging, cut=cut)


def test_receipts_in_others_names_count_for_nobody_and_name_who_sent_them() -> None:
    network = with_forger()
    assert outcome(network) == "right"
    assert network.survivors == [peer for peer in PEERS if peer != PEERS[5]]
    assert {name for reason, name in refused(network)} == {NAME}
    assert {reason for reason, name in refused(network)} == {Reason.BAD_RECEIPT}


def test_they_make_a_peer_ready_that_is_not_where_receipts_are_not_verified() -> None:
    """Then it masks with who has no share of its secrets; were it lost, too few could give them back."""
    with patch.object(Receipts, "_is_signed", lambda *_: True):
        network = with_forger()
        network.until("ready")
        assert round_of(network, 6)._receipts.is_ready(5)
    honest = with_forger().until("ready")
    assert not round_of(honest, 6)._receipts.is_ready(5)


# -- lists ----------------------------------------------------------------------------------------------


class ShowsNothing(TwoFaced):
    """With two announcements; and never shows what is behind a receipt that it relays or signed itself."""

    def show_list(self, sender: str, message: ListRequest, now: float) -> ListReply:
        return ListReply(())


def test_a_peer_that_shows_no_list_is_silent_for_who_needed_it() -> None:
    network = with_liar(ShowsNothing)
    assert outcome(network) == "right"
    assert network.survivors == [peer for peer in PEERS if peer != NAME]
    assert {name for _, name in refused(network)} == {NAME}


class Intermediary(Network):
    """The link between two peers is down, so that one hears of the other by way of the liar alone."""

    def handle(self, to: str, sender: str, message: PeerMessage) -> PeerMessage | None:
        reply = super().handle(to, sender, message)
        if to == NAME and isinstance(reply, ReadyReply) and reply.relays:
            relays = tuple(replace(item, signature=bytes(64)) for item in reply.relays)
            return replace(reply, relays=relays)
        return reply


class PatientIntermediary(Intermediary, Patient):
    pass


def test_who_spoils_what_it_relays_is_named_and_the_others_relay_it_too() -> None:
    cut = {(PEERS[0], PEERS[1]), (PEERS[1], PEERS[0])}
    network = PatientIntermediary(
        make_ticket(8), cut=cut, lost={PEERS[7]: "exchange"}, round_class=one_is(NAME, PeerRound)
    )
    assert outcome(network) == "right"
    assert refused(network) <= {(Reason.BAD_RECEIPT, NAME)}
    assert round_of(network, 0)._receipts.number(1) > 0
