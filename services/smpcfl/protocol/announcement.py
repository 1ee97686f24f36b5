"""What a dealer announces in a round, the shares that it deals under that, and what a holder confirms."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from . import merkle
from .encoding import canonical, digest
from .errors import Reason, RemoteError
from .fields import check_element, check_index, check_length, check_path
from .keystream import Secret
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


def confirmation_bytes(announcement_hash: bytes, holder: int) -> bytes:
    """What holder signs: that it has valid shares from this announcement's dealer."""
    return canonical("confirmation", announcement_hash, holder)


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
