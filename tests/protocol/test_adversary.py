"""Named lies by the aggregator: each yields nothing, and bares its victim once the protection is out.

The aggregator here keeps every upload, may sign anything with its own key, shows each peer whatever
survivor set it likes, and then takes off all the masks whose secrets it can put together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.keystream import Secret, expand, pair_key, self_key
from smpcfl.protocol.messages import Agreement, Answer, ShownShare
from smpcfl.protocol.peer import PeerRound
from smpcfl.protocol.phases import Phase
from smpcfl.protocol.ring import RingVector
from smpcfl.protocol.shamir import combine
from support.forge import round_of, survivors
from support.network import Network, make_ticket, peer_ids
from support.weakened import WithoutAgreement, WithoutEither, WithoutIsolationCheck

Sets = Mapping[int, Sequence[int]]


class Loot:
    """Shares that came into the aggregator's hands, and what they open."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.shares: dict[tuple[str, int], dict[int, Secret]] = {}

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

    def take_everything_of(self, index: int) -> None:
        """A colluding peer hands over all that it holds."""
        for dealer, dealt in round_of(self.network, index)._held.items():
            self.take(index, "self", dealer, dealt.self_share)
            self.take(index, "pair", dealer, dealt.pair_share)

    def secret(self, kind: str, dealer: int) -> Secret | None:
        found = self.shares.get((kind, dealer), {})
        if len(found) < self.network.ticket.threshold:
            return None
        return combine(dict(sorted(found.items())[: self.network.ticket.threshold]))

    def sum_of(self, victims: Sequence[int], colluders: Iterable[int] = ()) -> RingVector | None:
        """Σ q_i over `victims`, or None where a mask is left that nothing at hand takes off."""
        ticket, cohort = self.network.ticket, self.network.ticket.cohort
        total = ticket.layout.zeros()
        for i in victims:
            upload = self.network.uploads[cohort[i]]
            seed = self.secret("self", i)
            if seed is None:
                return None
            total += ticket.layout.parse(upload.vector)
            total -= expand(self_key(seed, ticket.digest, cohort[i]), ticket.layout)
            for j in upload.header.counts:
                if j in victims:
                    continue  # the two of them cancel out
                if j in colluders:
                    secrets = round_of(self.network, j)._secrets
                    assert secrets is not None
                    private: X25519PrivateKey | None = secrets.private
                else:
                    raw = self.secret("pair", j)
                    private = None if raw is None else X25519PrivateKey.from_private_bytes(raw)
                if private is None:
                    return None
                public = round_of(self.network, i).announcement.public_key
                key = pair_key(private, public, ticket.digest, cohort[i], cohort[j])
                mask = expand(key, ticket.layout)
                total = total - mask if j > i else total + mask
        return total

    def true_sum(self, victims: Sequence[int]) -> RingVector:
        total = self.network.ticket.layout.zeros()
        for i in victims:
            total += self.network.addends[self.network.ticket.cohort[i]]
        return total


def show(network: Network, sets: Sets) -> tuple[Loot, list[Reason]]:
    """Shows each peer its own survivor set; everything that is answered, and every refusal."""
    loot, refusals = Loot(network), []
    for index, members in sets.items():
        try:
            round_of(network, index).survivors(survivors(network, members), network.now)
        except RemoteError as error:
            refusals.append(error.reason)
    network.pump((Agreement,))
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


# -- b of the victim here, sk of all the others there -------------------------------------------------

VICTIM = 0
PEERS = peer_ids(8)


def split_sets() -> dict[int, tuple[int, ...]]:
    """Each peer is shown {victim, itself, one more}: never two peers the same set.

    A peer deals itself no share, so its own place in the set costs the aggregator nothing, and of every
    other peer six of seven holders believe that it dropped.
    """
    shown = {j: tuple(sorted({VICTIM, j, j % 7 + 1})) for j in range(1, 8)}
    return {VICTIM: (0, 1, 2), **shown}


def split_attack(kind: type[PeerRound]) -> tuple[Loot, list[Reason]]:
    network = Network(make_ticket(8, min_survivors=3), round_class=kind).until("upload")
    return show(network, split_sets())


def test_split_survivor_sets_bare_the_victim_of_a_build_without_either_check() -> None:
    loot, refusals = split_attack(WithoutEither)
    assert not refusals
    assert loot.sum_of([VICTIM]) == loot.true_sum([VICTIM])


def test_agreement_alone_stops_split_survivor_sets() -> None:
    loot, refusals = split_attack(WithoutIsolationCheck)
    assert refusals == [Reason.TOO_FEW_AGREEMENTS] * 8
    assert not loot.shares


@pytest.mark.parametrize("kind", [PeerRound, WithoutAgreement])
def test_poor_survivor_sets_are_refused_before_that(kind: type[PeerRound]) -> None:
    loot, refusals = split_attack(kind)
    assert refusals == [Reason.ISOLATED_SURVIVOR] * 8
    assert not loot.shares


# -- two rich sets, each of them unobjectionable -------------------------------------------------------

# Five peers, t = 3, peer 4 colludes. Each half is shown a set of four of which one honest peer is said
# to be dropped; with the colluder's shares both of those are opened, and only 0 and 1 stand in the sum.
RICH_SETS = {0: (0, 1, 3, 4), 3: (0, 1, 3, 4), 1: (0, 1, 2, 4), 2: (0, 1, 2, 4)}
COLLUDER = 4


def rich_attack(kind: type[PeerRound]) -> tuple[Loot, list[Reason]]:
    network = Network(make_ticket(5), round_class=kind).until("upload")
    assert network.ticket.min_survivors == 4
    loot, refusals = show(network, RICH_SETS)
    loot.take_everything_of(COLLUDER)
    return loot, refusals


def test_two_rich_sets_bare_the_sum_of_two_of_a_build_without_agreement() -> None:
    loot, refusals = rich_attack(WithoutAgreement)
    assert not refusals
    assert loot.sum_of([0, 1], [COLLUDER]) == loot.true_sum([0, 1])


def test_agreement_stops_two_rich_sets() -> None:
    loot, refusals = rich_attack(PeerRound)
    assert refusals == [Reason.TOO_FEW_AGREEMENTS] * 4
    assert loot.sum_of([0, 1], [COLLUDER]) is None


# -- one consistent but poor set ------------------------------------------------------------------------


def isolating(kind: type[PeerRound]) -> Network:
    """The victim never met 1 and 2 (the aggregator may run the network), and counts the other five."""
    cut = {pair for j in (1, 2) for pair in ((PEERS[0], PEERS[j]), (PEERS[j], PEERS[0]))}
    network = Network(make_ticket(8, min_survivors=3), cut=cut, round_class=kind).until("upload")
    assert set(network.uploads[PEERS[VICTIM]].header.counts) == {3, 4, 5, 6, 7}
    return network


def poor_attack(kind: type[PeerRound]) -> tuple[Loot, list[Reason]]:
    return show(isolating(kind), dict.fromkeys(range(8), (0, 1, 2)))


def test_a_poor_set_bares_an_isolated_victim_of_a_build_without_the_check() -> None:
    loot, refusals = poor_attack(WithoutIsolationCheck)
    assert not refusals  # all agree: it is one set, and consistent
    assert loot.sum_of([VICTIM]) == loot.true_sum([VICTIM])


def test_a_poor_set_is_refused_by_everyone() -> None:
    loot, refusals = poor_attack(PeerRound)
    assert refusals == [Reason.ISOLATED_SURVIVOR] * 8
    assert not loot.shares


# -- the same upload in two sums -----------------------------------------------------------------------


def test_a_second_set_after_the_first_bares_nobody() -> None:
    network = Network(make_ticket(8)).until("upload")
    everyone = tuple(range(8))
    loot, refusals = show(network, dict.fromkeys(range(8), everyone))
    assert not refusals
    more, refusals = show(network, dict.fromkeys(range(8), everyone[1:]))
    assert refusals == [Reason.SECOND_SURVIVOR_SET] * 8
    for key, shares in more.shares.items():
        loot.shares.setdefault(key, {}).update(shares)
    assert loot.sum_of(everyone) == loot.true_sum(everyone)
    assert loot.sum_of(everyone[1:]) is None
    assert loot.sum_of([VICTIM]) is None


@pytest.mark.parametrize("colluders", [(), (7,), (6, 7)])
def test_an_honest_round_opens_the_sum_of_the_survivors_and_no_smaller_one(
    colluders: tuple[int, ...],
) -> None:
    network = Network(make_ticket(8), lost={PEERS[5]: "upload"}).until("upload")
    network.aggregator.upload(PEERS[5], network.uploads[PEERS[5]])  # it came after all, too late
    chosen = (0, 1, 2, 3, 4, 6, 7)
    loot, _ = show(network, dict.fromkeys(chosen, chosen))
    for index in colluders:
        loot.take_everything_of(index)
    assert loot.sum_of(chosen) == loot.true_sum(chosen)
    honest = [i for i in chosen if i not in colluders]
    assert loot.sum_of(honest, colluders) == loot.true_sum(honest)  # as the sum tells them anyway
    for i in honest:
        smaller: Any = [j for j in honest if j != i]
        assert loot.sum_of([i], colluders) is None
        assert loot.sum_of(smaller, colluders) is None
    assert loot.sum_of([5], colluders) is None  # uploaded, left out of U: the self mask stays
