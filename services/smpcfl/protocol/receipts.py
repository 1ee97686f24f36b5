"""Receipts: one signature of a holder over all dealers that it confirmed (docs/protocol.md, section 7).

To confirm a dealer is to hold its announcement, and shares that fit it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from .announcement import Announcement, Announcements
from .encoding import DIGEST_BYTES, Encoded, canonical, encoded
from .errors import Reason, RemoteError
from .fields import check_ascending, check_index, check_length
from .signing import SIGNATURE_BYTES, Keyring, Signer
from .ticket import Ticket, pack_bitmap

MOST_RECEIPTS = 3  # of one holder in one round
# Of a hash, in a request for a list. Of 8 bytes a dealer finds two announcements that agree with 2^32 work,
# and nobody would be shown that they differ.
KNOWN_BYTES = 16


@dataclass(frozen=True)
class Receipt:
    """What `holder` signed: number 1, 2 or 3, and the dealers, ascending.

    Itself is among them, so that the receipt names its own announcement too; it does not count for that one.
    """

    holder: int
    number: int
    dealers: tuple[int, ...]
    signature: bytes

    def __post_init__(self) -> None:
        check_index(self.holder, "holder")
        check_length(self.signature, SIGNATURE_BYTES, "receipt")
        if not 1 <= self.number <= MOST_RECEIPTS:
            raise RemoteError(Reason.MALFORMED, "number of a receipt", found=self.number)
        check_ascending(self.dealers, "dealers of a receipt")
        if self.holder not in self.dealers:
            raise RemoteError(Reason.MALFORMED, "a receipt without its holder's announcement")


def receipt_bytes(ticket: Ticket, holder: int, number: int, listed: Mapping[int, bytes]) -> bytes:
    """What the holder signs. `listed`: hash of the announcement by dealer."""
    return _signed_bytes(ticket, holder, number, _listed_bytes(ticket, listed))


def _signed_bytes(ticket: Ticket, holder: int, number: int, listed: Encoded) -> bytes:
    return canonical("receipt", ticket.digest, holder, number, listed)


def _listed_bytes(ticket: Ticket, listed: Mapping[int, bytes]) -> Encoded:
    """The part of a receipt that is the same for all holders of the same."""
    bitmap = pack_bitmap(tuple(listed), len(ticket.cohort))
    hashes = b"".join(listed[dealer] for dealer in sorted(listed))
    return Encoded(encoded(bitmap) + encoded(hashes))


@dataclass(frozen=True)
class ListRequest:
    """Asks which announcements a receipt is over, of whoever sent it.

    `known`: (dealer, the first 16 bytes of the hash) of the announcements that the asker has, ascending.
    """

    ticket_digest: bytes
    holder: int
    number: int
    known: tuple[tuple[int, bytes], ...]

    def __post_init__(self) -> None:
        check_length(self.ticket_digest, DIGEST_BYTES, "ticket_digest")
        check_index(self.holder, "holder")
        check_ascending([dealer for dealer, _ in self.known], "known dealers")
        for _, found in self.known:
            check_length(found, KNOWN_BYTES, "known")


@dataclass(frozen=True)
class ListReply:
    """Those that the asker lacks, or knows another one of. The others are the ones that it has."""

    announcements: tuple[Announcement, ...]


@dataclass
class _Doubt:
    """A receipt that does not fit the announcements that are known first."""

    receipt: Receipt
    missing: set[int]
    """Dealers of which none is known: it was not verified yet."""


@dataclass(frozen=True)
class _Last:
    """The dealers of the receipt that was looked at last, as almost all are over the same.

    `listed`: their announcements that are known first, and `content`: what is signed for these. Which one of
    a dealer came first never changes.
    """

    dealers: tuple[int, ...]
    listed: dict[int, bytes]
    content: Encoded


class Receipts:
    """Who confirmed whom, in the view of one peer, and the announcements that this is about."""

    def __init__(
        self, ticket: Ticket, me: int, keyring: Keyring, signer: Signer, own: Announcement
    ) -> None:
        self._ticket = ticket
        self._me = me
        self._keyring = keyring
        self._signer = signer
        self.announcements = Announcements(ticket, keyring, own)
        self._newest: dict[int, Receipt] = {}
        # By holder and number: what it listed. Kept to be shown to whoever asks.
        self._lists: dict[tuple[int, int], dict[int, bytes]] = {}
        # By holder: the union of its receipts. The first announcement that it names of a dealer stands. Its
        # own is among them, and not counted.
        self._confirmed: dict[int, Mapping[int, bytes]] = {}
        self._holders = Counter[bytes]()  # by hash: how many others confirmed it
        self._covered: dict[int, bytes] = {}
        self._doubts: dict[tuple[int, int], _Doubt] = {}  # by sender and holder
        self._asked: set[tuple[int, int, int]] = set()  # sender, holder, number: once each
        self._last = _Last((), {}, Encoded())

    # -- what is known ----------------------------------------------------------------------------

    @property
    def own(self) -> Receipt | None:
        return self._newest.get(self._me)

    def number(self, holder: int) -> int:
        """Of the newest receipt of `holder` that was verified; 0 if there is none."""
        found = self._newest.get(holder)
        return 0 if found is None else found.number

    @property
    def numbers(self) -> tuple[tuple[int, int], ...]:
        """(holder, number) of the newest receipts, ascending."""
        return tuple((holder, found.number) for holder, found in sorted(self._newest.items()))

    def confirms(self, holder: int, dealer: int) -> bool:
        return dealer != holder and dealer in self._confirmed.get(holder, ())

    def is_ready(self, dealer: int) -> bool:
        """Whether t other peers confirmed one announcement of it, and no second one is known."""
        return dealer in self._covered and dealer not in self.announcements.equivocations

    def announcement(self, dealer: int) -> Announcement:
        """Of a dealer that is ready: the one that t receipts cover."""
        return self.announcements[self._covered[dealer]]

    def hashes(self) -> dict[int, bytes]:
        """By dealer: of the announcement that t receipts cover, else of the first one that came."""
        first = {dealer: item.hash for dealer, item in self.announcements.first.items()}
        return first | self._covered

    def may_lack(self) -> bool:
        """Whether somebody may hold a receipt that would make a dealer ready."""
        return any(
            holder != dealer
            and not self.confirms(holder, dealer)
            and self.number(holder) < MOST_RECEIPTS
            for dealer in self.announcements.first
            if dealer not in self._covered and dealer not in self.announcements.equivocations
            for holder in self._ticket.neighbours[self._me]
        )

    def newer(self, have: Iterable[tuple[int, int]], without: int) -> tuple[Receipt, ...]:
        """Receipts of others than this peer and `without` that who has those of `have` lacks."""
        known = dict(have)
        return tuple(
            found
            for holder, found in sorted(self._newest.items())
            if holder not in (self._me, without) and found.number > known.get(holder, 0)
        )

    # -- what comes in ----------------------------------------------------------------------------

    def learn(self, announcement: Announcement) -> None:
        """RemoteError as `Announcements.learn`. Receipts that waited for it are looked at again."""
        self.announcements.learn(announcement)
        for doubt in list(self._doubts.values()):
            if announcement.dealer in doubt.missing:
                doubt.missing.discard(announcement.dealer)
                if not doubt.missing:
                    self._fits(doubt.receipt)

    def sign(self, dealers: Iterable[int]) -> None:
        """This peer's next receipt, over `dealers` and its own announcement."""
        first, number = self.announcements.first, self.number(self._me) + 1
        listed = {dealer: first[dealer].hash for dealer in sorted({*dealers, self._me})}
        signature = self._signer(receipt_bytes(self._ticket, self._me, number, listed))
        self._keep(Receipt(self._me, number, tuple(listed), signature), listed)

    def take(self, sender: int, receipt: Receipt) -> None:
        """A receipt that `sender` sent, its own or another's. What does not fit becomes a question."""
        if receipt.dealers[-1] >= len(self._ticket.cohort):
            raise RemoteError(Reason.NOT_IN_COHORT, "receipt", found=receipt.dealers[-1])
        holder, number = receipt.holder, receipt.number
        doubt = self._doubts.get((sender, holder))
        if (
            holder == self._me
            or number <= self.number(holder)
            or (doubt is not None and number <= doubt.receipt.number)
            or (sender, holder, number) in self._asked
        ):
            return
        missing = set[int]()
        if receipt.dealers != self._last.dealers:
            missing = set(receipt.dealers) - self.announcements.first.keys()
        if missing or not self._fits(receipt):
            self._doubts[sender, holder] = _Doubt(receipt, missing)

    def _fits(self, receipt: Receipt) -> bool:
        """Whether it is signed over the announcements that are known first; if so it is kept."""
        if receipt.dealers != self._last.dealers:
            first = self.announcements.first
            listed = {dealer: first[dealer].hash for dealer in receipt.dealers}
            self._last = _Last(receipt.dealers, listed, _listed_bytes(self._ticket, listed))
        fits = self._is_signed(receipt, self._last.content)
        if fits:
            self._keep(receipt, self._last.listed)
        return fits

    def _is_signed(self, receipt: Receipt, listed: Encoded) -> bool:
        signed = _signed_bytes(self._ticket, receipt.holder, receipt.number, listed)
        holder = self._ticket.cohort[receipt.holder]
        return self._keyring.verify(holder, signed, receipt.signature)

    def _keep(self, receipt: Receipt, listed: dict[int, bytes]) -> None:
        holder = receipt.holder
        if receipt.number > self.number(holder):
            self._newest[holder] = receipt
        self._lists[holder, receipt.number] = listed
        before = self._confirmed.get(holder)
        if before is None:
            found = self._confirmed[holder] = listed
            self._holders[listed[holder]] -= 1  # its own is among those that are counted below
        else:
            found = {i: listed[i] for i in listed.keys() - before.keys()}
            self._confirmed[holder] = {**before, **found}
        self._holders.update(found.values())
        threshold = self._ticket.threshold
        if len(self._newest) >= threshold:  # holders that sent one: before, nobody is covered
            for dealer in found.keys() - self._covered.keys():
                if self._holders[found[dealer]] >= threshold:
                    self._covered[dealer] = found[dealer]
        for key, doubt in list(self._doubts.items()):
            if key[1] == holder and doubt.receipt.number <= receipt.number:
                del self._doubts[key]

    # -- lists ------------------------------------------------------------------------------------

    def doubted(self, *, late: bool) -> Iterator[tuple[int, Receipt]]:
        """Whom to ask for a list, and of which receipt; one for each of them.

        Until it is `late`, an announcement that is missing is waited for.
        """
        asked = set[int]()
        for (sender, _), doubt in self._doubts.items():
            if sender not in asked and (late or not doubt.missing):
                asked.add(sender)
                yield sender, doubt.receipt

    def question(self, receipt: Receipt) -> ListRequest:
        first = self.announcements.first
        known = tuple((i, first[i].hash[:KNOWN_BYTES]) for i in receipt.dealers if i in first)
        return ListRequest(self._ticket.digest, receipt.holder, receipt.number, known)

    def show(self, request: ListRequest) -> ListReply:
        """The answer to a question; empty where this peer does not hold the receipt."""
        known, listed = dict(request.known), self._lists.get((request.holder, request.number), {})
        return ListReply(
            tuple(
                self.announcements[found]
                for dealer, found in listed.items()
                if known.get(dealer) != found[:KNOWN_BYTES]
            )
        )

    def take_list(self, sender: int, request: ListRequest, reply: ListReply) -> None:
        """RemoteError(BAD_RECEIPT) where that is not what the holder signed: as if it had not been sent."""
        doubt = self._doubts.get((sender, request.holder))
        if doubt is None or doubt.receipt.number != request.number:
            return  # it came from somebody else, or was followed by another one
        receipt, first = doubt.receipt, self.announcements.first
        del self._doubts[sender, receipt.holder]
        self._asked.add((sender, receipt.holder, receipt.number))
        shown = {found.dealer: found for found in reply.announcements}
        known = {dealer: shown.get(dealer) or first.get(dealer) for dealer in receipt.dealers}
        found = [item for item in known.values() if item is not None]
        listed = {item.dealer: item.hash for item in found}
        try:
            # The receipt first: nothing is kept that no holder signed for.
            if len(found) < len(known) or not self._is_signed(
                receipt, _listed_bytes(self._ticket, listed)
            ):
                raise RemoteError(Reason.BAD_RECEIPT)
            for item in found:
                self.learn(item)
        except RemoteError as error:
            holder, peer = self._ticket.cohort[receipt.holder], self._ticket.cohort[sender]
            raise RemoteError(
                Reason.BAD_RECEIPT, f"of {holder}: not shown what it signed", peer=peer
            ) from error
        self._keep(receipt, listed)
