"""What a dealer announces in a round, the shares that it deals under that, and what a peer knows of both."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from . import merkle
from .encoding import canonical, digest
from .errors import Reason, RemoteError
from .fields import check_element, check_index, check_length, check_path
from .keystream import Secret, check_public_key
from .shamir import SHARE_BYTES
from .signing import SIGNATURE_BYTES, Keyring, Signer, check_signature
from .ticket import Ticket


@dataclass(frozen=True)
class Announcement:
    """A dealer's public material of one round."""

    ticket_digest: bytes
    dealer: int
    public_key: bytes
    commitment: bytes
    shares_root: bytes
    signature: bytes

    def __post_init__(self) -> None:
        for name in ("ticket_digest", "public_key", "commitment"):
            check_length(getattr(self, name), 32, name)
        check_length(self.shares_root, merkle.NODE_BYTES, "shares_root")
        check_length(self.signature, SIGNATURE_BYTES, "signature")
        check_index(self.dealer, "dealer")

    @cached_property
    def signed_bytes(self) -> bytes:
        return canonical(
            "announcement",
            self.ticket_digest,
            self.dealer,
            self.public_key,
            self.commitment,
            self.shares_root,
        )

    @cached_property
    def hash(self) -> bytes:
        """Names this announcement. Leaves the signature out: one content has many ECDSA signatures."""
        return digest("announcement hash", self.signed_bytes)

    def check(self, ticket: Ticket, keyring: Keyring) -> None:
        """RemoteError unless it is of this round, and signed by the dealer that it names."""
        if self.ticket_digest != ticket.digest:
            raise RemoteError(Reason.UNKNOWN_TICKET, "announcement")
        if self.dealer >= len(ticket.cohort):
            raise RemoteError(Reason.NOT_IN_COHORT, "announcement", found=self.dealer)
        peer = ticket.cohort[self.dealer]
        check_signature(keyring, peer, self.signed_bytes, self.signature, "announcement")


def sign_announcement(
    ticket: Ticket, dealer: int, public_key: bytes, commitment: bytes, root: bytes, signer: Signer
) -> Announcement:
    unsigned = canonical("announcement", ticket.digest, dealer, public_key, commitment, root)
    return Announcement(ticket.digest, dealer, public_key, commitment, root, signer(unsigned))


@dataclass(frozen=True)
class Dealt:
    """One holder's shares, and the path of its leaf, which covers the first two, to the announced root.

    `failure_share`: of r_i, an element of the field of `failures`.
    """

    self_share: Secret = field(repr=False)
    pair_share: Secret = field(repr=False)
    path: tuple[bytes, ...] = field(repr=False)
    failure_share: int = field(default=0, repr=False)

    def __post_init__(self) -> None:
        check_element(self.failure_share, "failure_share")
        check_length(self.self_share, SHARE_BYTES, "self_share")
        check_length(self.pair_share, SHARE_BYTES, "pair_share")
        check_path(self.path)

    def hashes(self, holder: int) -> tuple[bytes, bytes]:
        return (
            merkle.share_hash("self", holder, self.self_share),
            merkle.share_hash("pair", holder, self.pair_share),
        )


@dataclass(frozen=True)
class Equivocation:
    """Two announcements of one dealer for one ticket: with both signatures the proof against it."""

    one: Announcement
    other: Announcement

    def __post_init__(self) -> None:
        if self.one.dealer != self.other.dealer or self.one.hash == self.other.hash:
            raise RemoteError(Reason.MALFORMED, "not two announcements of one dealer")

    @property
    def dealer(self) -> int:
        return self.one.dealer


class Announcements:
    """All that one peer knows in a round, its `own` among them; each is checked once."""

    def __init__(self, ticket: Ticket, keyring: Keyring, own: Announcement) -> None:
        self._ticket = ticket
        self._keyring = keyring
        self._by_hash = {own.hash: own}
        self.first = {own.dealer: own}
        """Of each dealer the one that came first; no other one replaces it."""
        self.equivocations: dict[int, Equivocation] = {}
        """The proofs, by dealer."""

    def learn(self, found: Announcement) -> None:
        """Keeps it. RemoteError unless its dealer signed it, for this round, and its public key will do."""
        if found.hash in self._by_hash:
            return
        found.check(self._ticket, self._keyring)
        check_public_key(found.public_key, self._ticket.cohort[found.dealer])
        self._by_hash[found.hash] = found
        first = self.first.setdefault(found.dealer, found)
        if first is not found and found.dealer not in self.equivocations:
            self.equivocations[found.dealer] = Equivocation(first, found)

    def __getitem__(self, announcement_hash: bytes) -> Announcement:
        return self._by_hash[announcement_hash]
