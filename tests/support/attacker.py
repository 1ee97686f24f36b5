"""An aggregator that lies: keeps every upload, shows what it likes, and takes off every mask it can."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.keystream import Secret, expand, pair_key, self_key
from smpcfl.protocol.messages import Agreement, Answer, ShownShare, Survivors
from smpcfl.protocol.phases import Phase
from smpcfl.protocol.ring import RingVector
from smpcfl.protocol.shamir import combine
from support.forge import round_of, survivors
from support.network import Network

Sets = Mapping[int, Sequence[int]]
Relay = Callable[[Network], None]


class Loot:
    """Shares and secrets that came into the aggregator's hands, and what they open."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.shares: dict[tuple[str, int], dict[int, Secret]] = {}
        # Learnt in another way than from shares, by cohort index.
        self.seeds: dict[int, Secret] = {}
        self.keys: dict[int, X25519PrivateKey] = {}

    def take(self, holder: int, kind: str, dealer: int, share: Secret) -> None:
        number = self.network.ticket.neighbours[dealer].index(holder) + 1
        self.shares.setdefault((kind, dealer), {})[number] = share

    def take_answer(self, answer: Answer) -> None:
        kinds: dict[str, tuple[ShownShare, ...]] = {
            "self": answer.self_shares,
            "pair": answer.pair_shares,
        }
        for kind, shown in kinds.items():
            for item in shown:
                self.take(answer.holder, kind, item.dealer, item.share)

    def take_all(self, other: Loot) -> None:
        for key, shares in other.shares.items():
            self.shares.setdefault(key, {}).update(shares)

    def take_everything_of(self, index: int) -> None:
        """A colluding peer hands over all that it holds."""
        round_ = round_of(self.network, index)
        assert round_._secrets is not None
        self.keys[index] = round_._secrets.private
        for dealer, dealt in round_._of.held.items():
            self.take(index, "self", dealer, dealt.self_share)
            self.take(index, "pair", dealer, dealt.pair_share)

    def seed(self, dealer: int) -> Secret | None:
        return self.seeds.get(dealer) or self._combined("self", dealer)

    def key(self, dealer: int) -> X25519PrivateKey | None:
        if dealer in self.keys:
            return self.keys[dealer]
        raw = self._combined("pair", dealer)
        return None if raw is None else X25519PrivateKey.from_private_bytes(raw)

    def _combined(self, kind: str, dealer: int) -> Secret | None:
        found = self.shares.get((kind, dealer), {})
        if len(found) < self.network.ticket.threshold:
            return None
        return combine(dict(sorted(found.items())[: self.network.ticket.threshold]))

    def sum_of(self, victims: Sequence[int], *, self_masks: bool = True) -> RingVector | None:
        """Σ q_i over `victims`, or None where a mask is left that nothing at hand takes off.

        `self_masks`: whether the build at hand has any.
        """
        ticket, cohort = self.network.ticket, self.network.ticket.cohort
        total = ticket.layout.zeros()
        for i in victims:
            if cohort[i] not in self.network.uploads:
                return None
            upload = self.network.uploads[cohort[i]]
            total += ticket.layout.parse(upload.vector)
            if self_masks:
                seed = self.seed(i)
                if seed is None:
                    return None
                total -= expand(self_key(seed, ticket.digest, cohort[i]), ticket.layout)
            for j in upload.header.counts:
                if j in victims:
                    continue  # the two of them cancel out
                key = self._pair_key(i, j)
                if key is None:
                    return None
                mask = expand(key, ticket.layout)
                total = total - mask if j > i else total + mask
        return total

    def _pair_key(self, i: int, j: int) -> Secret | None:
        """From either end."""
        ticket, cohort = self.network.ticket, self.network.ticket.cohort
        for one, other in ((j, i), (i, j)):
            private = self.key(one)
            if private is not None:
                public = round_of(self.network, other).announcement.public_key
                return pair_key(private, public, ticket.digest, cohort[one], cohort[other])
        return None

    def true_sum(self, victims: Sequence[int]) -> RingVector:
        total = self.network.ticket.layout.zeros()
        for i in victims:
            total += self.network.addends[self.network.ticket.cohort[i]]
        return total

    def bares(self, victims: Sequence[int], *, self_masks: bool = True) -> bool:
        """Whether the attacker has Σ q_i over `victims`, to the bit."""
        return self.sum_of(victims, self_masks=self_masks) == self.true_sum(victims)


def show(
    network: Network,
    sets: Sets | Mapping[int, Survivors],
    relay: Relay | None = None,
) -> tuple[Loot, list[Reason]]:
    """Shows each peer its own survivor set; everything that is answered, and every refusal.

    A survivor set is given by its members, or as the whole message. `relay` may add agreements.
    """
    loot, refusals = Loot(network), []
    for index, shown in sets.items():
        message = shown if isinstance(shown, Survivors) else survivors(network, shown)
        try:
            round_of(network, index).survivors(message, network.now)
        except RemoteError as error:
            refusals.append(error.reason)
    network.pump((Agreement,))
    if relay is not None:
        relay(network)
    for now in (network.now, network.ticket.deadlines.agree / 1000):
        for index in sets:
            round_ = round_of(network, index)
            if round_.phase in (Phase.AGREED, Phase.ANSWERED):
                try:
                    answer = round_.answer(now)
                except RemoteError as error:
                    refusals.append(error.reason)
                else:
                    if answer is not None:
                        loot.take_answer(answer)
    return loot, refusals


def cut_between(network: Network, one: int, others: Iterable[int]) -> set[tuple[str, str]]:
    """Calls that the aggregator, who may run the network, keeps from arriving, both ways."""
    cohort = network.ticket.cohort
    return {pair for j in others for pair in ((cohort[one], cohort[j]), (cohort[j], cohort[one]))}
