"""Peers with one protection taken out, and peers that lie: what tests of the protections need to fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from smpcfl.protocol import merkle, peer_round
from smpcfl.protocol.additive import AdditivePeerRound
from smpcfl.protocol.announcement import sign_announcement
from smpcfl.protocol.keystream import expand
from smpcfl.protocol.ledger import Ledger
from smpcfl.protocol.masks import SeededMasks
from smpcfl.protocol.messages import Answer, Survivors
from smpcfl.protocol.peer_round import PeerRound
from smpcfl.protocol.phases import Phase
from smpcfl.protocol.ring import RingVector
from smpcfl.protocol.shamir import split


class NoMasks:
    def apply(self, addend: RingVector) -> RingVector:
        return addend


class Unmasked(PeerRound):
    """Uploads its update in the clear."""

    def masks(self, *arguments: Any, **options: Any) -> Any:
        _, header = super().masks(*arguments, **options)
        return NoMasks(), header


class UnmaskedAdditive(AdditivePeerRound):
    def masks(self, *arguments: Any, **options: Any) -> Any:
        _, header = super().masks(*arguments, **options)
        return NoMasks(), header


class WithoutAgreement(PeerRound):
    """Answers under any survivor set that it accepts, whatever its neighbours were told."""

    def answer(self, now: float) -> Answer | None:
        if self._agreement is not None:
            for j in self.neighbours:
                self._of[j].agreement = replace(self._agreement, peer=j)
        with patch.object(peer_round, "check_contributors"):
            return super().answer(now)


class CountsNoFailures(PeerRound):
    """Answers without knowing how many of the survivors trained: it needs no share of that count."""

    def _failure_sum(self, survivors: tuple[int, ...]) -> int | None:
        return 0

    def answer(self, now: float) -> Answer | None:
        with patch.object(peer_round, "check_contributors"):
            return super().answer(now)


class ForgetsSurvivors(PeerRound):
    """Takes every survivor set for the first one, in this round and before, and agreements to any."""

    def survivors(self, message: Survivors, now: float) -> None:
        if self._survivors is not None:
            self._survivors = self._agreement = self._answer = None
            self._ledger = Ledger()
            for neighbour in self._of.values():
                neighbour.agreement, neighbour.agreed_to = None, False
            self.phase = Phase.UPLOADED
        super().survivors(message, now)


class AliveAndDead(PeerRound):
    """Shows both secrets of whoever the aggregator asks for as a survivor and as dropped."""

    def _dropped(self, message: Survivors) -> set[int]:
        return set(self.neighbours)


class WithoutSelfMask(PeerRound):
    """Pair masks alone, which is what secure aggregation was before it masked twice."""

    def masks(self, *arguments: Any, **options: Any) -> Any:
        masks, header = super().masks(*arguments, **options)
        return OnlyPairMasks(masks.self_key, masks.plus, masks.minus), header


class OnlyPairMasks(SeededMasks):
    def apply(self, addend: RingVector) -> RingVector:
        return super().apply(addend) - expand(self.self_key, addend.layout)


class MasksTwice(PeerRound):
    """Gives out the masks of a round as often as they are asked for."""

    def masks(self, *arguments: Any, **options: Any) -> Any:
        if self.phase in (Phase.MASKED, Phase.UPLOADED):
            self.phase = Phase.READY
        return super().masks(*arguments, **options)


class CountsAnyNumber(PeerRound):
    """Uploads after the ready deadline however few neighbours count."""

    def masks_available(self, now: float) -> bool:
        found = super().masks_available(now)
        late = now * 1000 >= self.ticket.deadlines.ready
        return found or (late and self.phase is Phase.READY)


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


class ZeroKey(PeerRound):
    """Announces a public key of small order, with which every exchange of keys comes to nothing."""

    def _deal(self, entropy: Callable[[int], bytes]) -> Any:
        secrets, true = super()._deal(entropy), self.announcement
        self.announcement = sign_announcement(
            self.ticket, self.me, bytes(32), true.commitment, true.shares_root, self._signer
        )
        return secrets


def one_is(name: str, kind: type[PeerRound], others: type[PeerRound] = PeerRound) -> Any:
    """A round class for `Network`: `kind` for peer `name`, `others` for the rest."""
    return lambda signed, me, *rest: (kind if me == name else others)(signed, me, *rest)
