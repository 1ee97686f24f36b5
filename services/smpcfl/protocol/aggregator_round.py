"""The aggregator's side of one round: collects uploads, fixes the survivors, takes the masks off."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from . import merkle
from .announcement import Announcement
from .errors import Reason, RemoteError
from .keystream import Secret, add_keystreams, commitment, pair_key, self_key
from .messages import (
    Answer,
    Header,
    ShownShare,
    Survivors,
    Upload,
    headers_digest,
    survivors_bytes,
)
from .ring import Raw, RingVector
from .shamir import combine
from .signing import Keyring, Signer
from .survivors import choose_survivors
from .ticket import SignedTicket, Ticket


@dataclass
class _Found:
    """Valid shares of one secret by holder number."""

    kind: str
    announcement: Announcement
    shares: dict[int, Secret] = field(default_factory=dict, repr=False)


class Aside(Protocol):
    """Vectors by their peer's index, of which one in many rounds is wanted once more; a dict is one."""

    def __setitem__(self, index: int, vector: Raw, /) -> None: ...

    def __getitem__(self, index: int, /) -> Raw: ...


class AggregatorRound:
    """State of one round at the aggregator. Any RemoteError from `survivors` or `total` voids it.

    Vectors are summed as they come. One of a peer that turns out to be no survivor is taken off again: for
    that each is put `aside`.
    """

    def __init__(
        self,
        signed_ticket: SignedTicket,
        signer: Signer,
        keyring: Keyring,
        aside: Aside | None = None,
    ) -> None:
        self.signed_ticket = signed_ticket
        self.ticket: Ticket = signed_ticket.ticket
        self._signer = signer
        self._keyring = keyring
        self._uploads: dict[int, Upload] = {}
        self._aside: Aside = {} if aside is None else aside
        self._sum = self.ticket.layout.zeros()
        self._unmasked = False
        self._chosen: dict[int, Header] = {}
        # Cohort members outside U whose pair masks stand in the sum, with the announcement listed.
        self._dropped: dict[int, bytes] = {}
        self._wanted: dict[int, _Found] = {}
        self._answered: set[int] = set()
        self._fixed: tuple[bytes, bytes] | None = None

    # -- upload ---------------------------------------------------------------------------------

    def upload(self, peer: str, message: Upload) -> None:
        """Takes one peer's partial sum; RemoteError if it is not one of this round."""
        if self._fixed is not None:
            raise RemoteError(Reason.DEADLINE, "upload after the survivors were fixed", peer=peer)
        index = self.ticket.index(peer)
        header = message.header
        if header.sender != index:
            raise RemoteError(Reason.BAD_HEADER, "another's header", peer=peer)
        header.check(self.ticket, self._keyring)
        if self.ticket.recovers:
            announcement = message.announcement
            if (
                announcement is None
                or announcement.hash != header.announcement_hash
                or announcement.dealer != index
            ):
                raise RemoteError(Reason.BAD_HEADER, "announcement missing or another", peer=peer)
            announcement.check(self.ticket, self._keyring)
            if len(header.counting) < self.ticket.threshold:
                raise RemoteError(
                    Reason.TOO_FEW_COUNTING,
                    peer=peer,
                    expected=self.ticket.threshold,
                    found=len(header.counting),
                )
        vector = self.ticket.layout.parse(message.vector, peer)
        kept = replace(message, vector=b"")
        if index in self._uploads:
            if self._uploads[index] != kept or self._aside[index] != message.vector:
                raise RemoteError(Reason.EQUIVOCATION, "two uploads", peer=peer)
            return
        self._aside[index] = message.vector
        self._sum += vector
        self._uploads[index] = kept

    @property
    def uploaded(self) -> list[str]:
        return [self.ticket.cohort[index] for index in sorted(self._uploads)]

    # -- agree ----------------------------------------------------------------------------------

    def fix_survivors(self, within: Collection[str] | None = None) -> list[str]:
        """Fixes U and returns its peer ids. RemoteError(TOO_FEW_SURVIVORS) if the round is void.

        `within`: the only peers that are to be in it; all if not given.
        """
        if self._fixed is not None:
            raise RemoteError(Reason.WRONG_PHASE, "the survivors are fixed already")
        headers = {
            index: upload.header
            for index, upload in sorted(self._uploads.items())
            if within is None or self.ticket.cohort[index] in within
        }
        recovers = self.ticket.recovers
        self._chosen = choose_survivors(self.ticket, headers) if recovers else headers
        self._dropped = {
            index: announcement_hash
            for header in self._chosen.values()
            for index, announcement_hash in header.counting
            if index not in self._chosen
        }
        floor = self.ticket.min_survivors if recovers else len(self.ticket.cohort)
        if len(self._chosen) < floor:
            raise RemoteError(
                Reason.TOO_FEW_SURVIVORS,
                f"{len(self._uploads)} of {len(self.ticket.cohort)} uploaded",
                expected=f">= {floor}",
                found=len(self._chosen),
            )
        for index in self._uploads.keys() - self._chosen.keys():
            self._sum -= self.ticket.layout.parse(self._aside[index])
        ordered = headers_digest(list(self._chosen.values()))
        signed = survivors_bytes(self.ticket, tuple(self._chosen), ordered)
        self._fixed = (ordered, self._signer(signed))
        for index in self._chosen if recovers else ():
            announcement = self._uploads[index].announcement
            assert announcement is not None
            self._wanted[index] = _Found("self", announcement)
        return [self.ticket.cohort[index] for index in self._chosen]

    def survivors(self) -> Survivors:
        """The survivor set with its headers, the same for every peer."""
        if self._fixed is None:
            raise RemoteError(Reason.WRONG_PHASE, "the survivors are not fixed yet")
        ordered, signature = self._fixed
        headers = tuple(self._chosen.values())
        return Survivors(self.ticket.digest, tuple(self._chosen), headers, ordered, signature)

    # -- unmask ---------------------------------------------------------------------------------

    def answer(self, peer: str, message: Answer) -> None:
        """Takes one peer's shares. RemoteError(BAD_SHARE) names the holder of a wrong one."""
        index = self.ticket.index(peer)
        if message.ticket_digest != self.ticket.digest or message.holder != index:
            raise RemoteError(Reason.MALFORMED, "another round's or peer's answer", peer=peer)
        if index in self._answered:
            return
        if max(len(message.self_shares), len(message.pair_shares)) > self.ticket.degree:
            raise RemoteError(Reason.MALFORMED, "more shares than neighbours", peer=peer)
        for announcement in message.announcements:
            if self._dropped.get(announcement.dealer) != announcement.hash:
                raise RemoteError(
                    Reason.BAD_SHARE, "another announcement of the dropped", peer=peer
                )
            if announcement.dealer not in self._wanted:
                try:
                    announcement.check(self.ticket, self._keyring)
                except RemoteError as error:
                    # Its hash is the one that survivors signed for, so the holder spoilt the rest.
                    raise RemoteError(Reason.BAD_SHARE, error.detail, peer=peer) from error
                self._wanted[announcement.dealer] = _Found("pair", announcement)
        shown = [("self", share) for share in message.self_shares]
        shown += [("pair", share) for share in message.pair_shares]
        checked = [self._check_share(index, kind, share) for kind, share in shown]
        self._answered.add(index)
        for dealer, number, share in checked:
            self._wanted[dealer].shares[number] = share

    def _check_share(self, holder: int, kind: str, shown: ShownShare) -> tuple[int, int, Secret]:
        peer = self.ticket.cohort[holder]
        found = self._wanted.get(shown.dealer)
        if found is None or found.kind != kind:
            raise RemoteError(Reason.BAD_SHARE, f"a {kind} share that was not asked", peer=peer)
        holders = self.ticket.neighbours[shown.dealer]
        if holder not in holders:
            raise RemoteError(Reason.NOT_A_NEIGHBOUR, "share", peer=peer)
        number = holders.index(holder) + 1
        own = merkle.share_hash(kind, number, shown.share)
        node = merkle.leaf(*((own, shown.sibling) if kind == "self" else (shown.sibling, own)))
        root = merkle.root_from(node, number - 1, shown.path)
        if root != found.announcement.shares_root:
            raise RemoteError(Reason.BAD_SHARE, "not the share that was announced", peer=peer)
        return shown.dealer, number, shown.share

    def enough(self) -> bool:
        """Whether every secret that the sum needs can be reconstructed."""
        if not self.ticket.recovers:
            return True
        return self._dropped.keys() <= self._wanted.keys() and all(
            len(found.shares) >= self.ticket.threshold for found in self._wanted.values()
        )

    # -- sum ------------------------------------------------------------------------------------

    def total(self) -> RingVector:
        """Σ q_i over the survivors.

        RemoteError: TOO_FEW_ANSWERS, or BAD_COMMITMENT that names a dealer whose shares do not give
        the secret that it announced.
        """
        if not self.enough():
            fewest = min((len(f.shares) for f in self._wanted.values()), default=0)
            if self._dropped.keys() - self._wanted.keys():
                fewest = 0
            raise RemoteError(
                Reason.TOO_FEW_ANSWERS,
                f"{len(self._answered)} peers answered",
                expected=self.ticket.threshold,
                found=fewest,
            )
        if not self._unmasked:
            self._unmask()
        return self._sum

    def _unmask(self) -> None:
        plus, minus = list[Secret](), list[Secret]()  # masks by the sign that they have in the sum
        for dealer, found in self._wanted.items():
            shares = dict(sorted(found.shares.items())[: self.ticket.threshold])
            peer = self.ticket.cohort[dealer]
            try:
                secret = combine(shares)
            except RemoteError as error:
                raise RemoteError(Reason.BAD_COMMITMENT, error.detail, peer=peer) from error
            if found.kind == "self":
                plus.append(self._self_key(dealer, secret, found.announcement))
                continue
            for index, key in self._pair_keys(dealer, secret, found.announcement).items():
                (plus if dealer > index else minus).append(key)
        add_keystreams(self._sum, minus, plus)
        self._unmasked = True

    def _self_key(self, dealer: int, seed: Secret, announcement: Announcement) -> Secret:
        peer = self.ticket.cohort[dealer]
        if commitment(seed, self.ticket.digest, peer) != announcement.commitment:
            raise RemoteError(Reason.BAD_COMMITMENT, "self seed", peer=peer)
        return self_key(seed, self.ticket.digest, peer)

    def _pair_keys(self, dealer: int, raw: Secret, announcement: Announcement) -> dict[int, Secret]:
        """Of a dropped dealer's masks with the survivors that count it, by survivor."""
        peer = self.ticket.cohort[dealer]
        private = X25519PrivateKey.from_private_bytes(raw)
        if private.public_key().public_bytes_raw() != announcement.public_key:
            raise RemoteError(Reason.BAD_COMMITMENT, "pair secret", peer=peer)
        keys = dict[int, Secret]()
        for index, header in self._chosen.items():
            if dealer not in header.counts:
                continue
            survivor = self._uploads[index].announcement
            assert survivor is not None
            other = self.ticket.cohort[index]
            keys[index] = pair_key(private, survivor.public_key, self.ticket.digest, peer, other)
        return keys
