"""One dealer's secrets of a round, and how holders check their shares of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from . import failures, merkle
from .announcement import Announcement, Dealt, sign_announcement
from .errors import Reason, RemoteError
from .keystream import Secret, commitment
from .shamir import split
from .signing import Signer
from .ticket import Ticket


@dataclass
class Secrets:
    """Of one round, in memory only; dropped when the round closes."""

    private: X25519PrivateKey
    self_seed: Secret
    dealt: dict[int, Dealt]
    failure_mask: int = field(repr=False)
    """r_i of `failures`, and this peer's own share of it."""
    failure_share: int = field(repr=False)


def deal(
    ticket: Ticket, me: int, signer: Signer, entropy: Callable[[int], bytes]
) -> tuple[Announcement, Secrets]:
    """Draws the round's secrets, cuts them into a share for each neighbour, and announces them."""
    neighbours = ticket.neighbours[me]
    count = len(neighbours)
    raw, seed = Secret(entropy(32)), Secret(entropy(32))
    private = X25519PrivateKey.from_private_bytes(raw)
    self_shares = split(seed, ticket.threshold, count, entropy)
    pair_shares = split(raw, ticket.threshold, count, entropy)
    root, paths = merkle.root_and_paths(
        [
            merkle.leaf(
                merkle.share_hash("self", holder, self_shares[holder - 1]),
                merkle.share_hash("pair", holder, pair_shares[holder - 1]),
            )
            for holder in range(1, count + 1)
        ]
    )
    announcement = sign_announcement(
        ticket,
        me,
        private.public_key().public_bytes_raw(),
        commitment(seed, ticket.digest, ticket.cohort[me]),
        root,
        signer,
    )
    mask = failures.draw(entropy)
    failure_shares = failures.split(mask, ticket.threshold, len(ticket.cohort), entropy)
    dealt = {
        index: Dealt(self_shares[place], pair_shares[place], paths[place], failure_shares[index])
        for place, index in enumerate(neighbours)
    }
    return announcement, Secrets(private, seed, dealt, mask, failure_shares[me])


def check_dealt(ticket: Ticket, holder: int, announcement: Announcement, dealt: Dealt) -> None:
    """RemoteError(BAD_SHARE) unless these are the shares announced for cohort index `holder`."""
    dealer = announcement.dealer
    holders = ticket.neighbours[dealer]
    place = holders.index(holder)
    node = merkle.leaf(*dealt.hashes(place + 1))
    root = merkle.root_from(node, place, dealt.path)
    if root != announcement.shares_root or len(dealt.path) != merkle.depth(len(holders)):
        raise RemoteError(Reason.BAD_SHARE, "not what was announced", peer=ticket.cohort[dealer])
