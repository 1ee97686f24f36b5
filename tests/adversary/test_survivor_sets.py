"""A lying aggregator's survivor sets: each yields nothing, and bares its victim without the protection."""

from __future__ import annotations

import pytest

from smpcfl.protocol import peer_round as peer_module
from smpcfl.protocol import survivors as survivors_module
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.messages import Header
from smpcfl.protocol.peer_round import PeerRound
from support.attacker import Loot, Relay, cut_between, show
from support.forge import agreement, header, headers_of, round_of, survivors
from support.network import Network, make_ticket, peer_ids
from support.unchecked import check, removed
from support.weakened import (
    CountsAnyNumber,
    CountsNoFailures,
    WithoutAgreement,
)

ISOLATION = check(peer_module, "check_survivors", Reason.ISOLATED_SURVIVOR)
FLOOR = check(peer_module, "check_survivors", Reason.TOO_FEW_SURVIVORS)
COUNT = check(PeerRound, "answer", "check_contributors")

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
    with removed(ISOLATION):
        loot, refusals = split_attack(WithoutAgreement)
    assert not refusals
    assert loot.bares([VICTIM])


def test_agreement_alone_stops_split_survivor_sets() -> None:
    with removed(ISOLATION):
        loot, refusals = split_attack(PeerRound)
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


def rich_attack(
    kind: type[PeerRound] = PeerRound, relay: Relay | None = None
) -> tuple[Loot, list[Reason]]:
    network = Network(make_ticket(5), round_class=kind).until("upload")
    assert network.ticket.min_survivors == 4
    loot, refusals = show(network, RICH_SETS, relay)
    loot.take_everything_of(COLLUDER)
    return loot, refusals


def test_two_rich_sets_bare_the_sum_of_two_of_a_build_without_agreement() -> None:
    loot, refusals = rich_attack(WithoutAgreement)
    assert not refusals
    assert loot.bares([0, 1])


def test_agreement_stops_two_rich_sets() -> None:
    loot, refusals = rich_attack()
    assert refusals == [Reason.TOO_FEW_AGREEMENTS] * 4
    assert loot.sum_of([0, 1]) is None


# The same, with agreements that the aggregator signs itself, or lets its colluder sign, in others' names.
AGREEMENT_SIGNED = check(PeerRound, "agreement", "check_signature")


def forged_agreements(network: Network) -> list[Reason]:
    refusals = []
    for index, members in RICH_SETS.items():
        for j in round_of(network, index).neighbours:
            signer = network.ticket.cohort[COLLUDER]
            forged = agreement(network, j, survivors(network, members), signer=signer)
            round_of(network, index)._of[j].agreement = None  # the true one is held back
            try:
                round_of(network, index).agreement(forged)
            except RemoteError as error:
                refusals.append(error.reason)
    return refusals


def forged_agreement_attack() -> tuple[Loot, list[Reason]]:
    found: list[Reason] = []
    loot, refusals = rich_attack(relay=lambda network: found.extend(forged_agreements(network)))
    return loot, found + refusals


def test_forged_agreements_bare_the_sum_of_two_of_a_build_that_does_not_check_them() -> None:
    with removed(AGREEMENT_SIGNED):
        loot, refusals = forged_agreement_attack()
    assert not refusals
    assert loot.bares([0, 1])


def test_forged_agreements_are_refused() -> None:
    loot, refusals = forged_agreement_attack()
    # Three neighbours of each; the fourth is the colluder itself, whose own signature is good.
    assert refusals == [Reason.BAD_SIGNATURE] * 12 + [Reason.TOO_FEW_AGREEMENTS] * 4
    assert loot.sum_of([0, 1]) is None


# One agreement short: eight peers, t = 5, 6 and 7 collude. Either half has two others and the colluders.
SHORT_SETS = {
    **dict.fromkeys((0, 1, 2), (0, 1, 2, 5, 6, 7)),
    **dict.fromkeys((3, 4, 5), (0, 3, 4, 5, 6, 7)),
}


def own_agreement_attack() -> tuple[Loot, list[Reason]]:
    """The colluders agree to both sets, and each peer's own agreement comes back to it."""
    network, found = Network(make_ticket(8)).until("upload"), list[Reason]()

    def relay(network: Network) -> None:
        for index, members in SHORT_SETS.items():
            for j in (6, 7, index):
                try:
                    round_of(network, index).agreement(
                        agreement(network, j, survivors(network, members))
                    )
                except RemoteError as error:
                    found.append(error.reason)

    loot, refusals = show(network, SHORT_SETS, relay)
    for index in (6, 7):
        loot.take_everything_of(index)
    return loot, found + refusals


def test_ones_own_agreement_relayed_back_counts_once_for_the_failures_even_where_it_is_taken() -> (
    None
):
    with removed(check(PeerRound, "agreement", Reason.NOT_A_NEIGHBOUR)):
        loot, refusals = own_agreement_attack()
    assert refusals == [Reason.TOO_FEW_AGREEMENTS] * 6
    assert loot.sum_of([0, 5]) is None


def test_ones_own_agreement_relayed_back_is_refused() -> None:
    loot, refusals = own_agreement_attack()
    assert refusals == [Reason.NOT_A_NEIGHBOUR] * 6 + [Reason.TOO_FEW_AGREEMENTS] * 6
    assert loot.sum_of([0, 5]) is None


# -- one consistent but poor set ------------------------------------------------------------------------


def isolating(kind: type[PeerRound]) -> Network:
    """The victim never met 1 and 2 (the aggregator may run the network), and counts the other five."""
    cut = {pair for j in (1, 2) for pair in ((PEERS[0], PEERS[j]), (PEERS[j], PEERS[0]))}
    network = Network(make_ticket(8, min_survivors=3), cut=cut, round_class=kind).until("upload")
    assert set(network.uploads[PEERS[VICTIM]].header.counts) == {3, 4, 5, 6, 7}
    return network


def poor_attack(kind: type[PeerRound] = PeerRound) -> tuple[Loot, list[Reason]]:
    return show(isolating(kind), dict.fromkeys(range(8), (0, 1, 2)))


def test_a_poor_set_bares_an_isolated_victim_of_a_build_without_the_check() -> None:
    with removed(ISOLATION):
        loot, refusals = poor_attack(CountsNoFailures)
    assert not refusals  # all agree: it is one set, and consistent
    assert loot.bares([VICTIM])


def test_of_a_poor_set_too_few_can_count_the_failures() -> None:
    with removed(ISOLATION):
        loot, refusals = poor_attack()
    assert refusals == [Reason.TOO_FEW_AGREEMENTS] * 8
    assert not loot.shares


def test_a_poor_set_is_refused_by_everyone() -> None:
    loot, refusals = poor_attack()
    assert refusals == [Reason.ISOLATED_SURVIVOR] * 8
    assert not loot.shares


# -- a set that another than the aggregator signed ------------------------------------------------------


def impostor_attack() -> tuple[Loot, list[Reason]]:
    """A colluding peer, who may run the network, asks for the shares with a set of its own."""
    network = Network(make_ticket(8)).until("upload")
    message = survivors(network, range(8), signer=PEERS[7])
    return show(network, dict.fromkeys(range(8), message))


def test_a_set_that_a_peer_signed_is_answered_where_nobody_asks_who_did() -> None:
    with removed(check(survivors_module, "check_origin", "check_signature")):
        loot, refusals = impostor_attack()
    assert not refusals
    assert loot.bares(range(8))


def test_a_set_that_a_peer_signed_is_refused() -> None:
    loot, refusals = impostor_attack()
    assert refusals == [Reason.BAD_SIGNATURE] * 8
    assert not loot.shares


# -- survivors below the floor --------------------------------------------------------------------------

# A set of one is a sum of one. Below the floor a set is also always one that isolates, so it has to be
# the floor of both, ticket and peer, and the search for isolated survivors that are missing.


def lonely_attack() -> Loot | Reason:
    network = Network(make_ticket(8)).until("upload")
    loot, refusals = show(network, dict.fromkeys(range(8), (VICTIM,)))
    if not refusals:
        return loot
    assert set(refusals) == {refusals[0]}
    assert len(refusals) >= 8
    assert not loot.shares
    return refusals[0]


def test_a_sum_of_one_is_opened_by_a_build_without_floor_and_isolation_check() -> None:
    with removed(FLOOR, ISOLATION, COUNT):
        loot = lonely_attack()
    assert isinstance(loot, Loot)
    assert loot.bares([VICTIM])


def test_survivors_below_the_floor_are_refused() -> None:
    assert lonely_attack() is Reason.TOO_FEW_SURVIVORS
    with removed(ISOLATION):
        assert lonely_attack() is Reason.TOO_FEW_SURVIVORS
    with removed(FLOOR):
        assert lonely_attack() is Reason.ISOLATED_SURVIVOR
    with removed(FLOOR, ISOLATION):
        assert lonely_attack() is Reason.TOO_FEW_CONTRIBUTORS


# -- deadlines that leave a peer with too few that count ------------------------------------------------


def hurried(kind: type[PeerRound]) -> Network:
    """The victim's exchange is let through, and of all ready calls only those with peer 7, a colluder."""
    network = Network(make_ticket(8), round_class=kind).until("exchange")
    network.cut = cut_between(network, VICTIM, range(1, 7))
    network.ready()
    for peer in PEERS:
        network.mask(peer)
    return network


def hurried_attack() -> tuple[Loot, list[Reason]]:
    network = hurried(CountsAnyNumber)
    assert set(network.uploads[PEERS[VICTIM]].header.counts) == {7}
    # Not to the victim: it is cut off from the agreements of the others.
    loot, refusals = show(network, dict.fromkeys(range(1, 8), tuple(range(8))))
    loot.take_everything_of(7)
    return loot, refusals


def test_a_peer_that_uploads_with_too_few_that_count_is_bared_where_nobody_counts() -> None:
    with removed(ISOLATION):
        loot, refusals = hurried_attack()
    assert not refusals
    assert loot.bares([VICTIM])


def test_a_peer_with_too_few_that_count_abstains() -> None:
    network = hurried(PeerRound)
    assert PEERS[VICTIM] not in network.uploads
    with pytest.raises(RemoteError) as error:
        round_of(network, VICTIM).masks_available(network.ticket.deadlines.upload / 1000)
    assert error.value.reason is Reason.TOO_FEW_COUNTING


def test_the_others_refuse_to_unmask_one_that_did_not_abstain() -> None:
    loot, refusals = hurried_attack()
    assert refusals == [Reason.ISOLATED_SURVIVOR] * 7
    assert loot.seed(VICTIM) is None


# -- forged and stripped headers ------------------------------------------------------------------------

# What the others go by, when they look for isolated survivors, is the victim's own signed header.
HEADER_SIGNED = check(Header, "check", "check_signature")


def forged_header_attack() -> tuple[Loot, list[Reason]]:
    """The hurried victim, whose header is made to list everyone; it is not shown the set itself."""
    network = hurried(CountsAnyNumber)
    headers = headers_of(network, range(8))
    for index in range(8):
        everyone = [j for j in range(8) if j != index]
        headers[index] = header(network, index, everyone, signer="aggregator")
    loot, refusals = show(
        network, dict.fromkeys(range(1, 8), survivors(network, range(8), headers))
    )
    loot.take_everything_of(7)
    return loot, refusals


def test_forged_headers_hide_that_the_victim_is_isolated_where_they_are_not_checked() -> None:
    with removed(HEADER_SIGNED):
        loot, refusals = forged_header_attack()
    assert not refusals
    assert loot.bares([VICTIM])


def test_forged_headers_are_refused() -> None:
    loot, refusals = forged_header_attack()
    assert refusals == [Reason.BAD_SIGNATURE] * 7
    assert loot.seed(VICTIM) is None


def stripped_attack() -> list[Reason]:
    """The set of everyone, without the header of one."""
    network = Network(make_ticket(8)).until("upload")
    message = survivors(network, range(8), headers_of(network, range(7)))
    return show(network, dict.fromkeys(range(8), message))[1]


def test_a_set_without_the_header_of_a_survivor_is_refused() -> None:
    assert stripped_attack() == [Reason.BAD_HEADER] * 8


def test_a_build_that_needs_no_headers_agrees_to_survivors_of_whom_it_saw_none() -> None:
    with removed(check(survivors_module, "_check_complete", Reason.BAD_HEADER), COUNT):
        assert stripped_attack() == []
