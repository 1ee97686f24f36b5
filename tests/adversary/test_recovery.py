"""Both secrets of one peer: whatever the order of events, recovery gives one of them and never the other."""

from __future__ import annotations

import pytest

from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.messages import Survivors
from smpcfl.protocol.peer_round import PeerRound
from smpcfl.protocol.phases import Phase
from support.attacker import Loot, show
from support.forge import header, headers_of, round_of, survivors
from support.network import Network, make_ticket, peer_ids
from support.weakened import AliveAndDead, ForgetsSurvivors, WithoutSelfMask

PEERS = peer_ids(8)
VICTIM = 0
EVERYONE = tuple(range(8))
OTHERS = EVERYONE[1:]

# -- the victim's late partial sum, used after its recovery ---------------------------------------------


def late(kind: type[PeerRound], when: str) -> Loot:
    """The victim is said to have dropped, its pair secret recovered; its partial sum is there after all."""
    network = Network(make_ticket(8), round_class=kind).until("ready")
    for peer in PEERS if when == "held back" else PEERS[1:]:
        network.mask(peer)
    loot, refusals = show(network, dict.fromkeys(OTHERS, OTHERS))
    assert not refusals
    if when == "after unmask":  # which the victim knows nothing of: it is shown no survivor set
        network.mask(PEERS[VICTIM])
    assert PEERS[VICTIM] in network.uploads
    return loot


@pytest.mark.parametrize("when", ["held back", "after unmask"])
def test_a_late_partial_sum_is_opened_in_a_build_without_self_masks(when: str) -> None:
    assert late(WithoutSelfMask, when).bares([VICTIM], self_masks=False)


@pytest.mark.parametrize("when", ["held back", "after unmask"])
def test_the_self_mask_stays_on_a_late_partial_sum(when: str) -> None:
    loot = late(PeerRound, when)
    assert loot.key(VICTIM) is not None  # all its pair masks can be taken off
    assert loot.sum_of([VICTIM], self_masks=False) not in (None, loot.true_sum([VICTIM]))
    assert loot.seed(VICTIM) is None
    assert loot.sum_of([VICTIM]) is None
    assert loot.sum_of(EVERYONE) is None


# -- alive and dead in one request ----------------------------------------------------------------------


def alive_and_dead(kind: type[PeerRound]) -> tuple[Loot, list[Reason]]:
    network = Network(make_ticket(8), round_class=kind).until("upload")
    return show(network, dict.fromkeys(EVERYONE, EVERYONE))


def test_a_build_that_answers_alive_and_dead_bares_everyone() -> None:
    loot, refusals = alive_and_dead(AliveAndDead)
    assert not refusals
    assert all(loot.bares([index]) for index in EVERYONE)


def test_nobody_is_alive_and_dead() -> None:
    # The message cannot even say it: the dropped are those whom survivors list, less the survivors.
    loot, _ = alive_and_dead(PeerRound)
    assert {kind for kind, _ in loot.shares} == {"self"}
    assert not any(loot.bares([index]) for index in EVERYONE)


def test_a_set_with_the_header_of_one_that_it_drops_cannot_be_said() -> None:
    network = Network(make_ticket(8)).until("upload")
    with pytest.raises(RemoteError) as error:
        survivors(network, OTHERS, headers_of(network, EVERYONE))
    assert error.value.reason is Reason.MALFORMED


# -- unmask asked twice ---------------------------------------------------------------------------------


def twice(kind: type[PeerRound]) -> tuple[Loot, list[Reason]]:
    """First everyone survives, then everyone but the victim."""
    network = Network(make_ticket(8), round_class=kind).until("upload")
    loot, refusals = show(network, dict.fromkeys(EVERYONE, EVERYONE))
    assert not refusals
    more, refusals = show(network, dict.fromkeys(OTHERS, OTHERS))
    loot.take_all(more)
    return loot, refusals


def test_a_second_survivor_set_bares_the_victim_of_a_build_that_forgets_the_first() -> None:
    loot, refusals = twice(ForgetsSurvivors)
    assert not refusals
    assert loot.bares([VICTIM])


def test_a_second_survivor_set_is_refused() -> None:
    loot, refusals = twice(PeerRound)
    assert refusals == [Reason.SECOND_SURVIVOR_SET] * 7
    assert loot.bares(EVERYONE)
    assert loot.sum_of(OTHERS) is None
    assert loot.sum_of([VICTIM]) is None


def test_the_same_set_again_gives_the_same_answers() -> None:
    network = Network(make_ticket(8)).until("upload")
    first, _ = show(network, dict.fromkeys(EVERYONE, EVERYONE))
    again, refusals = show(network, dict.fromkeys(EVERYONE, EVERYONE))
    assert not refusals
    assert again.shares == first.shares


# -- unmask before upload -------------------------------------------------------------------------------


def premature(network: Network, signer: str = "aggregator") -> Survivors:
    """Everyone is said to survive, though the victim has not uploaded; its header is made up."""
    headers = headers_of(network, OTHERS)
    return survivors(network, EVERYONE, [header(network, VICTIM, OTHERS, signer=signer), *headers])


@pytest.mark.parametrize(
    ("signer", "reason"),
    # With the victim's own signature, which nobody has: then it is the victim itself that refuses.
    [("aggregator", Reason.BAD_SIGNATURE), (PEERS[VICTIM], Reason.WRONG_PHASE)],
)
def test_unmask_before_the_upload_is_refused(signer: str, reason: Reason) -> None:
    network = Network(make_ticket(8)).until("ready")
    for peer in PEERS[1:]:
        network.mask(peer)
    loot, refusals = show(network, {VICTIM: premature(network, signer)})
    assert refusals == [reason]
    assert not loot.shares


def test_whoever_has_agreed_masks_nothing_any_more() -> None:
    network = Network(make_ticket(8)).until("ready")
    for peer in PEERS[1:]:
        network.mask(peer)
    loot, refusals = show(network, dict.fromkeys(EVERYONE, OTHERS))
    assert not refusals
    assert loot.bares(OTHERS)
    network.mask(PEERS[VICTIM])
    assert PEERS[VICTIM] not in network.uploads
    assert network.errors[-1][1].reason is Reason.WRONG_PHASE  # type: ignore[attr-defined]
    assert round_of(network, VICTIM).phase is Phase.ANSWERED


# -- what an honest round opens -------------------------------------------------------------------------


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
    assert loot.bares(chosen)
    honest = [i for i in chosen if i not in colluders]
    assert loot.bares(honest)  # as the sum tells them anyway
    for i in honest:
        assert loot.sum_of([i]) is None
        assert loot.sum_of([j for j in honest if j != i]) is None
    assert loot.sum_of([5]) is None  # uploaded, left out of U: the self mask stays
