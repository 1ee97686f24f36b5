"""The messages of a round. Frozen, and checked when built; peers are named by their cohort index.

What is signed is the `canonical` encoding of the fields, never the bytes of the wire.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TypeAlias

from .announcement import Announcement, Dealt, Equivocation
from .encoding import DIGEST_BYTES, Encoded, canonical, digest, encoded
from .errors import Reason, RemoteError
from .fields import check_ascending, check_element, check_index, check_length, check_path
from .keystream import Secret
from .receipts import ListReply, ListRequest, Receipt
from .shamir import SHARE_BYTES
from .signing import SIGNATURE_BYTES, Keyring, check_signature
from .ticket import MAX_COHORT, SignedTicket, Ticket, pack_bitmap


@dataclass(frozen=True)
class Exchange:
    """Lower id to higher id, and the reply: the sender's announcement, and the receiver's shares."""

    announcement: Announcement
    dealt: Dealt

    @property
    def ticket_digest(self) -> bytes:
        return self.announcement.ticket_digest


@dataclass(frozen=True)
class Ready:
    """The sender's newest receipt, where the receiver may lack it, and whether the pair counts for it.

    `counts` is said until a call that says it is answered. `has`: the number of the receiver's receipt that
    the sender holds, 0 for none. `have`: of which holders it holds which, given only by who lacks some.
    `announcement`, with the receiver's share of r_i, comes where the receiver may not have the sender's
    shares, so that whoever counts a peer can count its failure.
    """

    ticket_digest: bytes
    receipt: Receipt | None = None
    counts: bool = False
    has: int = 0
    have: tuple[tuple[int, int], ...] | None = None
    proofs: tuple[Equivocation, ...] = ()
    announcement: Announcement | None = None
    failure_share: int = field(default=0, repr=False)

    def __post_init__(self) -> None:
        check_element(self.failure_share, "failure_share")
        check_length(self.ticket_digest, DIGEST_BYTES, "ticket_digest")


@dataclass(frozen=True)
class ReadyReply:
    """The same of the other side. `closed`: whom it counts is final. `relays`: what the caller lacks."""

    receipt: Receipt | None = None
    counts: bool = False
    closed: bool = False
    relays: tuple[Receipt, ...] = ()
    announcement: Announcement | None = None
    failure_share: int = field(default=0, repr=False)

    def __post_init__(self) -> None:
        check_element(self.failure_share, "failure_share")


@dataclass(frozen=True)
class Header:
    """What is signed with an upload: who counts for the sender, by announcement.

    `masked_failure`: f_i − r_i (`failures.hide`), 0 in `additive`.
    """

    ticket_digest: bytes
    sender: int
    announcement_hash: bytes
    counting: tuple[tuple[int, bytes], ...]
    signature: bytes
    masked_failure: int

    def __post_init__(self) -> None:
        check_element(self.masked_failure, "masked_failure")
        check_length(self.ticket_digest, DIGEST_BYTES, "ticket_digest")
        check_length(self.announcement_hash, DIGEST_BYTES, "announcement_hash")
        check_length(self.signature, SIGNATURE_BYTES, "signature")
        check_index(self.sender, "sender")
        if {len(found) for _, found in self.counting} - {DIGEST_BYTES}:
            raise RemoteError(Reason.MALFORMED, "counting", expected=f"{DIGEST_BYTES} bytes each")
        check_ascending([index for index, _ in self.counting], "counting neighbours")
        if self.sender in self.counts:
            raise RemoteError(Reason.MALFORMED, "the sender among its counting neighbours")

    @cached_property
    def signed_bytes(self) -> bytes:
        return header_bytes(
            self.ticket_digest,
            self.sender,
            self.announcement_hash,
            self.counting,
            self.masked_failure,
        )

    @cached_property
    def counts(self) -> dict[int, bytes]:
        """Announcement hash by cohort index of the neighbours that count."""
        return dict(self.counting)

    def check(self, ticket: Ticket, keyring: Keyring) -> None:
        """RemoteError unless it is the signed header of a cohort member for this ticket."""
        if self.ticket_digest != ticket.digest:
            raise RemoteError(Reason.UNKNOWN_TICKET, "header")
        if self.sender >= len(ticket.cohort):
            raise RemoteError(Reason.NOT_IN_COHORT, "header", found=self.sender)
        peer = ticket.cohort[self.sender]
        check_signature(keyring, peer, self.signed_bytes, self.signature, "header")
        if not self.counts.keys() <= set(ticket.neighbours[self.sender]):
            raise RemoteError(Reason.NOT_A_NEIGHBOUR, "header", peer=peer)


def header_bytes(
    ticket_digest: bytes,
    sender: int,
    announcement_hash: bytes,
    counting: Sequence[tuple[int, bytes]],
    masked_failure: int,
) -> bytes:
    pairs = [_named(index, found) for index, found in counting]
    return canonical("header", ticket_digest, sender, announcement_hash, pairs, masked_failure)


@lru_cache(maxsize=4 * MAX_COHORT)
def _named(index: int, announcement_hash: bytes) -> Encoded:
    """Each header of a round names the same announcements."""
    return encoded([index, announcement_hash])


@dataclass(frozen=True)
class Upload:
    """What goes to the aggregator: a header, its announcement (none in `additive`), a partial sum."""

    header: Header
    announcement: Announcement | None
    vector: bytes = field(repr=False)


def headers_digest(headers: Sequence[Header]) -> bytes:
    """Binds the headers of all survivors, in cohort order."""
    return digest("headers", [header.signed_bytes for header in headers])


def survivors_bytes(ticket: Ticket, survivors: Sequence[int], headers: bytes) -> bytes:
    return canonical(
        "survivors", ticket.digest, pack_bitmap(survivors, len(ticket.cohort)), headers
    )


@dataclass(frozen=True)
class Survivors:
    """The aggregator's survivor set U, with the headers of all of U."""

    ticket_digest: bytes
    survivors: tuple[int, ...]
    headers: tuple[Header, ...]
    headers_digest: bytes
    signature: bytes

    def __post_init__(self) -> None:
        check_length(self.ticket_digest, DIGEST_BYTES, "ticket_digest")
        check_length(self.headers_digest, DIGEST_BYTES, "headers_digest")
        check_length(self.signature, SIGNATURE_BYTES, "signature")
        check_ascending(self.survivors, "survivors")
        senders = [header.sender for header in self.headers]
        if senders != sorted(set(senders)) or not set(senders) <= set(self.survivors):
            raise RemoteError(Reason.MALFORMED, "headers not of survivors, ascending")


def agreement_bytes(
    ticket_digest: bytes,
    survivors_digest: bytes,
    peer: int,
    failure_sum: int | None,
    earlier: bytes = b"",
) -> bytes:
    """Names the ticket: who keeps it early does not know yet what the survivors digest is of."""
    found = -1 if failure_sum is None else failure_sum
    return canonical("agreement", ticket_digest, survivors_digest, peer, found, earlier)


@dataclass(frozen=True)
class Agreement:
    """One peer's signature under one survivor set; anyone may relay it.

    `failure_sum`: of the shares of r_i that it holds over the survivors; None if it does not hold all.
    `earlier`: `set_digest` of the other set over this model that it agreed to; empty if there is none.
    """

    ticket_digest: bytes
    survivors_digest: bytes
    peer: int
    signature: bytes
    failure_sum: int | None = None
    earlier: bytes = b""

    def __post_init__(self) -> None:
        if self.failure_sum is not None:
            check_element(self.failure_sum, "failure_sum")
        check_length(self.ticket_digest, DIGEST_BYTES, "ticket_digest")
        check_length(self.survivors_digest, DIGEST_BYTES, "survivors_digest")
        check_length(self.signature, SIGNATURE_BYTES, "signature")
        check_index(self.peer, "peer")
        if self.earlier:
            check_length(self.earlier, DIGEST_BYTES, "earlier")

    @property
    def signed_bytes(self) -> bytes:
        return agreement_bytes(
            self.ticket_digest, self.survivors_digest, self.peer, self.failure_sum, self.earlier
        )

    def says_the_same(self, other: Agreement) -> bool:
        mine = (self.survivors_digest, self.failure_sum, self.earlier)
        return mine == (other.survivors_digest, other.failure_sum, other.earlier)


@dataclass(frozen=True)
class ShownShare:
    """One share of `dealer`, shown to the aggregator; `sibling` is the hash of the other share."""

    dealer: int
    share: Secret = field(repr=False)
    sibling: bytes = field(repr=False)
    path: tuple[bytes, ...] = field(repr=False)

    def __post_init__(self) -> None:
        check_index(self.dealer, "dealer")
        check_length(self.share, SHARE_BYTES, "share")
        check_length(self.sibling, DIGEST_BYTES, "sibling")
        check_path(self.path)


@dataclass(frozen=True)
class Answer:
    """Unmask: shares of b_j for survivors j, of sk_j for the dropped, with the latter's announcements."""

    ticket_digest: bytes
    holder: int
    self_shares: tuple[ShownShare, ...]
    pair_shares: tuple[ShownShare, ...]
    announcements: tuple[Announcement, ...]

    def __post_init__(self) -> None:
        check_length(self.ticket_digest, DIGEST_BYTES, "ticket_digest")
        check_index(self.holder, "holder")


@dataclass(frozen=True)
class AdditiveShare:
    """`additive`: one uniform vector, for one receiver."""

    ticket_digest: bytes
    vector: bytes = field(repr=False)

    def __post_init__(self) -> None:
        check_length(self.ticket_digest, DIGEST_BYTES, "ticket_digest")


PeerRequest: TypeAlias = SignedTicket | Exchange | Ready | ListRequest | Agreement | AdditiveShare
PeerMessage: TypeAlias = PeerRequest | ReadyReply | ListReply


@dataclass(frozen=True)
class Call:
    """A unary call that is due: `message` to the cohort member `to` (a peer id)."""

    to: str
    message: PeerRequest
