"""Peers with one protection taken out, and peers that lie: what tests of the protections need to fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from smpcfl.protocol import merkle
from smpcfl.protocol import peer as peer_module
from smpcfl.protocol.additive import AdditivePeerRound
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.messages import Answer, Survivors, sign_announcement
from smpcfl.protocol.peer import PeerRound
from smpcfl.protocol.ring import RingVector
from smpcfl.protocol.shamir import split
from smpcfl.protocol.survivors import check_survivors, survivors_digest
from smpcfl.protocol.ticket import Ticket


class NoMasks:
    def apply(self, addend: RingVector) -> RingVector:
        return addend


class Unmasked(PeerRound):
    """Uploads its update in the clear."""

    def masks(self, *arguments: Any) -> Any:
        _, header = super().masks(*arguments)
        return NoMasks(), header


class UnmaskedAdditive(AdditivePeerRound):
    def masks(self, *arguments: Any) -> Any:
        _, header = super().masks(*arguments)
        return NoMasks(), header


class WithoutAgreement(PeerRound):
    """Answers under any survivor set that it accepts, whatever its neighbours were told."""

    def answer(self, now: float) -> Answer | None:
        if self._agreement is not None:
            self._early = {j: replace(self._agreement, peer=j) for j in self.neighbours}
        return super().answer(now)


def _isolated_is_fine(ticket: Ticket, *arguments: Any) -> bytes:
    try:
        return check_survivors(ticket, *arguments)
    except RemoteError as error:
        if error.reason is not Reason.ISOLATED_SURVIVOR:
            raise
    message = next(item for item in arguments if isinstance(item, Survivors))
    return survivors_digest(ticket, message)


class WithoutIsolationCheck(PeerRound):
    """Agrees to survivors that have no t mutual neighbours among the survivors."""

    def survivors(self, message: Survivors, now: float) -> None:
        with patch.object(peer_module, "check_survivors", _isolated_is_fine):
            super().survivors(message, now)


class WithoutEither(WithoutAgreement, WithoutIsolationCheck):
    """Neither agreement nor a test for isolated survivors."""


class BadDealer(PeerRound):
    """Deals shares of another secret than it announced, under hashes that match the shares."""

    kind = "self"

    def _deal(self, entropy: Callable[[int], bytes]) -> Any:
        secrets, ticket = super()._deal(entropy), self.ticket
        wrong = split(entropy(32), ticket.threshold, len(self.neighbours), entropy)
        dealt = [
            replace(old, **{f"{self.kind}_share": share})
            for old, share in zip(secrets.dealt.values(), wrong, strict=True)
        ]
        root, paths = merkle.root_and_paths(
            [merkle.leaf(*item.hashes(holder)) for holder, item in enumerate(dealt, 1)]
        )
        secrets.dealt = {
            index: replace(item, path=path)
            for index, item, path in zip(self.neighbours, dealt, paths, strict=True)
        }
        true = self.announcement
        self.announcement = sign_announcement(
            ticket, self.me, true.public_key, true.commitment, root, self._signer
        )
        return secrets


class BadPairDealer(BadDealer):
    kind = "pair"


def one_is(peer: str, kind: type[PeerRound], others: type[PeerRound] = PeerRound) -> Any:
    """A round class for `Network`: `kind` for one peer, `others` for the rest."""
    return lambda signed, me, *rest: (kind if me == peer else others)(signed, me, *rest)
