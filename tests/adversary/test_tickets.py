"""Tickets chosen against the peers that follow them, and peers that go by their own limits."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from smpcfl.protocol import peer_round as peer_module
from smpcfl.protocol.admission import Admission
from smpcfl.protocol.base_round import BaseRound
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.messages import Upload
from smpcfl.protocol.peer_round import PeerRound
from smpcfl.protocol.policy import Policy
from smpcfl.protocol.ring import RingVector
from smpcfl.protocol.ticket import SignedTicket
from support.attacker import Loot, show
from support.forge import agreement, round_of, survivors
from support.network import Network, Round, make_ticket, peer_ids, sign
from support.remembering import Refusing
from support.unchecked import Check, check, removed

PEERS = peer_ids(8)
EVERYONE = tuple(range(8))
VICTIM = 0
NOW_MS = 10**12


@dataclass
class Admitting(Refusing):
    """Peers that follow a ticket only if `Admission` lets them, as agents do."""

    policy: Policy = Policy(min_cohort=3)
    highest: dict[str, int] = field(default_factory=dict)

    def _round(self, peer: str, **options: float | None) -> Round:
        Admission(peer, self.policy, self.keyring).check(
            self.signed, highest_serial=self.highest.get(peer, 0), running=None, now_ms=NOW_MS
        )
        self.highest[peer] = self.ticket.serial
        return super()._round(peer, **options)


def offered(signed: SignedTicket, **options: Any) -> Network | list[Reason]:
    """The round up to its uploads, or why no peer took part."""
    network = Admitting(signed, **options).until("start")
    assert isinstance(network, Admitting)
    if not network.rounds:
        return network.refusals
    for step in (network.exchange, network.ready):
        step()
    for peer in network.rounds:
        network.mask(peer)
    return network


def limit(reason: Reason) -> Check:
    return check(Policy, "check", reason)


# -- a threshold of 1 chosen by the server --------------------------------------------------------------


def threshold_of_one() -> Loot | list[Reason]:
    """Two pairs of peers, each agreed on a set of its own: one share is the secret."""
    network = offered(make_ticket(8, threshold=1, min_survivors=3))
    if isinstance(network, list):
        return network
    first, second = (VICTIM, 1, 2), (VICTIM, 3, 4)
    loot, refusals = show(network, {1: first, 2: first, 3: second, 4: second})
    assert not refusals
    return loot


def test_a_threshold_of_one_bares_the_victim_of_a_build_that_follows_it() -> None:
    with removed(limit(Reason.POLICY_THRESHOLD)):
        loot = threshold_of_one()
    assert isinstance(loot, Loot)
    assert loot.bares([VICTIM])


def test_a_threshold_of_one_is_refused_by_everyone() -> None:
    assert threshold_of_one() == [Reason.POLICY_THRESHOLD] * 8


# -- a threshold of two thirds, no more, and fewer colluders than k/3 -----------------------------------

COLLUDERS = (6, 7)
HALVES = {
    **dict.fromkeys((0, 1, 2), (0, 1, 2, 6, 7)),  # 3, 4 and 5 are said to have dropped
    **dict.fromkeys((3, 4, 5), (0, 3, 4, 5, 6, 7)),  # 1 and 2 are
}


def collude(network: Network) -> None:
    """Both colluders agree to either set."""
    for index, members in HALVES.items():
        for j in COLLUDERS:
            round_of(network, index).agreement(agreement(network, j, survivors(network, members)))


def halves(threshold: int) -> tuple[Loot, list[Reason]] | list[Reason]:
    network = offered(make_ticket(8, threshold=threshold, min_survivors=3))
    if isinstance(network, list):
        return network
    loot, refusals = show(network, HALVES, collude)
    for index in COLLUDERS:
        loot.take_everything_of(index)
    return loot, refusals


def test_a_threshold_that_is_too_low_bares_the_victim_with_two_of_seven_colluding() -> None:
    with removed(limit(Reason.POLICY_THRESHOLD)):
        result = halves(4)
    assert isinstance(result, tuple)
    loot, refusals = result
    assert not refusals
    assert loot.bares([VICTIM])


def test_a_threshold_that_is_too_low_is_refused_by_everyone() -> None:
    assert halves(4) == [Reason.POLICY_THRESHOLD] * 8


def test_with_the_threshold_that_is_followed_the_two_get_nowhere() -> None:
    result = halves(5)
    assert isinstance(result, tuple)
    loot, refusals = result
    # One half is refused for what it is told, the other cannot agree: six honest peers are too few for two.
    assert refusals == [Reason.ISOLATED_SURVIVOR] * 3 + [Reason.TOO_FEW_AGREEMENTS] * 3
    assert loot.sum_of([VICTIM]) is None


# -- a cohort, or survivors, of the victim and colluders ------------------------------------------------

WARY = Policy(min_cohort=8)  # withstands two colluders: 3c + 2


def small_cohort() -> Loot | list[Reason]:
    network = offered(make_ticket(3), policy=WARY)
    if isinstance(network, list):
        return network
    loot, refusals = show(network, dict.fromkeys(range(3), (0, 1, 2)))
    assert not refusals
    for index in (1, 2):
        loot.take_everything_of(index)
    return loot


def test_a_cohort_of_colluders_bares_the_victim_of_a_build_without_its_own_limit() -> None:
    with removed(limit(Reason.POLICY_COHORT)):
        loot = small_cohort()
    assert isinstance(loot, Loot)
    assert loot.bares([VICTIM])


def test_a_cohort_below_the_peers_own_limit_is_refused() -> None:
    assert small_cohort() == [Reason.POLICY_COHORT] * 3


def few_survivors() -> tuple[Loot, list[Reason]] | list[Reason]:
    network = offered(make_ticket(8, min_survivors=2))
    if isinstance(network, list):
        return network
    loot, refusals = show(network, dict.fromkeys(EVERYONE, (VICTIM, 7)))
    loot.take_everything_of(7)
    return loot, refusals


def test_a_sum_of_two_with_a_colluder_bares_the_victim_where_no_limit_is_left() -> None:
    # The ticket's own limit, the same one once more at agree and of those that trained, and the search for
    # isolated survivors.
    with removed(
        limit(Reason.POLICY_SURVIVORS),
        check(peer_module, "check_survivors", Reason.TOO_FEW_SURVIVORS, Reason.ISOLATED_SURVIVOR),
        check(PeerRound, "answer", "check_contributors"),
    ):
        result = few_survivors()
    assert isinstance(result, tuple)
    loot, refusals = result
    assert not refusals
    assert loot.bares([VICTIM])


def test_a_ticket_with_too_few_survivors_is_refused() -> None:
    assert few_survivors() == [Reason.POLICY_SURVIVORS] * 8
    with removed(limit(Reason.POLICY_SURVIVORS)):
        result = few_survivors()
    assert isinstance(result, tuple)
    assert result[1] == [Reason.TOO_FEW_SURVIVORS] * 8


# -- one ticket with two models, or two configurations --------------------------------------------------


def still(addend: RingVector) -> RingVector:
    """The update of a peer whose model does not move: a learning rate of nothing, say."""
    return RingVector.of(addend.body * 0, addend.wide)


def two_at_once(name: str) -> tuple[Network, list[Reason]]:
    """All but the victim are given something under which nothing is learnt: the sum is the victim's."""
    network = Network(make_ticket(8)).until("ready")
    other = {"model": (b"\x01" * 32, bytes(32)), "config": (bytes(32), b"\x01" * 32)}[name]
    refusals: list[Reason] = []
    for peer in PEERS:
        round_ = round_of(network, network.ticket.index(peer))
        given = (bytes(32), bytes(32)) if peer == PEERS[VICTIM] else other
        if peer != PEERS[VICTIM]:
            network.addends[peer] = still(network.addends[peer])
        try:
            round_.begin(*given)
            masks, header = round_.masks(network.now)
        except RemoteError as error:
            refusals.append(error.reason)
            continue
        vector = masks.apply(network.addends[peer].copy()).tobytes()
        network.uploads[peer] = Upload(header, round_.announcement, vector)
        round_.freeze(vector, network.now)
    return network, refusals


@pytest.mark.parametrize(
    ("name", "reason"), [("model", Reason.MODEL_MISMATCH), ("config", Reason.CONFIG_MISMATCH)]
)
def test_two_models_under_one_ticket(name: str, reason: Reason) -> None:
    with removed(check(BaseRound, "begin", reason)):
        network, refusals = two_at_once(name)
    assert not refusals
    loot, _ = show(network, dict.fromkeys(EVERYONE, EVERYONE))
    total, own = loot.sum_of(EVERYONE), network.addends[PEERS[VICTIM]]
    assert total is not None
    assert (total.body == own.body).all()

    network, refusals = two_at_once(name)
    assert refusals == [reason] * 7
    assert list(network.uploads) == [PEERS[VICTIM]]


# -- two tickets for one round, and going back ----------------------------------------------------------

SERIAL_CHECKED = check(Admission, "check", Reason.STALE_SERIAL)


def sum_of_all(network: Network) -> RingVector | None:
    members = range(len(network.ticket.cohort))
    return show(network, dict.fromkeys(members, tuple(members)))[0].sum_of(tuple(members))


def again_without_the_victim(change: dict[str, Any]) -> RingVector | list[Reason]:
    """The same round and model once more, for all but one: the difference of the sums is what it added."""
    first = Admitting(make_ticket(8, serial=5)).until("upload")
    assert isinstance(first, Admitting)
    ticket = first.ticket
    # The victim's place is the last one here, so that the others keep theirs.
    rest = replace(make_ticket(7, serial=5, nonce=bytes(32)).ticket, **change)
    second = Admitting(sign(rest), seed=first.seed, highest=first.highest)
    second.addends = first.addends
    second.until("start")
    if not second.rounds:
        return second.refusals
    for step in (second.exchange, second.ready):
        step()
    for peer in second.rounds:
        second.mask(peer)
    one, other = sum_of_all(first), sum_of_all(second)
    assert one is not None
    assert other is not None
    assert one - other == first.addends[ticket.cohort[7]]
    return one - other


@pytest.mark.parametrize(
    "change",
    [{}, {"serial": 4}, {"serial": 1, "round": 1}],
    ids=["two tickets for one round", "an older serial", "an older round"],
)
def test_a_second_ticket_under_an_old_serial(change: dict[str, Any]) -> None:
    with removed(SERIAL_CHECKED):
        assert isinstance(again_without_the_victim(change), RingVector)
    assert again_without_the_victim(change) == [Reason.STALE_SERIAL] * 7


def forged_ticket(name: str) -> Network | list[Reason]:
    """A peer sends out the ticket of a round of its own."""
    return offered(sign(make_ticket(8).ticket, name))


def test_a_ticket_that_another_peer_signed() -> None:
    with removed(check(Admission, "check", Reason.BAD_SIGNATURE)):
        assert isinstance(forged_ticket(PEERS[3]), Network)
    assert forged_ticket(PEERS[3]) == [Reason.BAD_SIGNATURE] * 8


# -- what is out of range -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "ticket", "reason"),
    [
        ({"modes": ("additive",)}, {}, Reason.POLICY_MODE),
        ({"widths": (32, 64)}, {}, Reason.POLICY_RANGE),
        ({"clips": (2.0**-10, 0.5)}, {}, Reason.POLICY_RANGE),
        ({}, {"clip": 2.0**-11}, Reason.POLICY_RANGE),  # the direction of an update, and no more
        ({"weight_caps": (101, 200)}, {}, Reason.POLICY_RANGE),
        ({"members": frozenset(PEERS[1:])}, {}, Reason.POLICY_MEMBERS),
        ({"max_vector_bytes": make_ticket(8).ticket.layout.nbytes - 1}, {}, Reason.POLICY_RANGE),
        ({"max_deadline_ms": 1000}, {}, Reason.POLICY_RANGE),
        ({}, {"serial": NOW_MS + 3_600_001}, Reason.FUTURE_SERIAL),
        ({}, {"cohort": peer_ids(9)[1:]}, Reason.NOT_IN_COHORT),
    ],
)
def test_a_ticket_beyond_a_peers_own_limits(
    policy: dict[str, Any], ticket: dict[str, Any], reason: Reason
) -> None:
    signed = sign(replace(make_ticket(8).ticket, **ticket))
    network = Admitting(signed, policy=Policy(**policy))
    admission = Admission(PEERS[VICTIM], network.policy, network.keyring)

    def follow() -> bool:
        return admission.check(signed, highest_serial=0, running=None, now_ms=NOW_MS)

    with pytest.raises(RemoteError) as error:
        follow()
    assert error.value.reason is reason
    where = Policy if reason.name.startswith("POLICY") else Admission
    with removed(check(where, "check", reason)):
        assert follow()
