"""One dealer's secrets of a round, how holders check their shares of them, and who has confirmed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from . import failures, merkle
from .announcement import Announcement, Dealt, confirmation_bytes, sign_announcement
from .errors import Reason, RemoteError
from .keystream import Secret, commitment
from .messages import Confirmation, Ready
from .shamir import split
from .signing import Keyring, Signer
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


def make_ready(
    ticket: Ticket,
    announcement: Announcement,
    confirmations: Mapping[int, bytes],
    to: int,
    failure_share: int,
) -> Ready:
    """With t confirmations. The receiver's own is counted without being sent; where it has not

    confirmed it may not have the announcement either, which then comes along, with its failure share."""
    others = [index for index in sorted(confirmations) if index != to]
    confirmed = to in confirmations
    chosen = others[: ticket.threshold - confirmed]
    return Ready(
        ticket.digest,
        tuple(Confirmation(index, confirmations[index]) for index in chosen),
        None if confirmed else announcement,
        0 if confirmed else failure_share,
    )


def check_ready(
    ticket: Ticket,
    keyring: Keyring,
    announcement: Announcement,
    me: int,
    held: bool,
    message: Ready,
) -> None:
    """RemoteError unless t of the dealer's neighbours confirmed this announcement.

    `held`: whether this peer, `me`, has confirmed it and so counts as one of them.
    """
    peer = ticket.cohort[announcement.dealer]
    holders = {item.holder for item in message.confirmations}
    if not holders <= set(ticket.neighbours[announcement.dealer]):
        raise RemoteError(Reason.BAD_CONFIRMATION, "not from neighbours", peer=peer)
    found = len(holders | {me} if held else holders)
    if found < ticket.threshold or len(holders) != len(message.confirmations):
        raise RemoteError(
            Reason.TOO_FEW_CONFIRMATIONS, peer=peer, expected=ticket.threshold, found=found
        )
    for item in message.confirmations:
        signed = confirmation_bytes(announcement.hash, item.holder)
        if not keyring.verify(ticket.cohort[item.holder], signed, item.signature):
            raise RemoteError(
                Reason.BAD_CONFIRMATION, f"of {ticket.cohort[item.holder]}", peer=peer
            )
