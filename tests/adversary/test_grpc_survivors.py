"""A lying aggregator with its real key, over gRPC: peers as they are deployed give it nothing.

It keeps every upload, shows each peer whatever survivor set it likes, and then takes off all masks whose
secrets it can put together. The same is done to a build without the check, where the update is bared.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from smpcfl.net import wire
from smpcfl.protocol import peer_round as peer_module
from smpcfl.protocol import survivors as survivors_module
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.messages import Exchange, Header, Ready
from smpcfl.protocol.peer_round import PeerRound
from support.attacker import Loot
from support.deployed import LONG_S, Deployed, outcome
from support.forge import header, headers_of, round_of, survivors
from support.unchecked import check, removed
from support.weakened import CountsAnyNumber, CountsNoFailures, ForgetsSurvivors, WithoutAgreement

pytestmark = pytest.mark.sockets

ISOLATION = check(peer_module, "check_survivors", Reason.ISOLATED_SURVIVOR)
FLOOR = check(peer_module, "check_survivors", Reason.TOO_FEW_SURVIVORS)
COUNT = check(PeerRound, "answer", "check_contributors")
PEERS = 5
EVERYONE = tuple(range(PEERS))
VICTIM, COLLUDER = 0, 4


async def uploaded(net: Deployed, **changes: object) -> None:
    await net.begin(net.make_ticket(**changes))
    await net.upload()


async def completes(net: Deployed) -> None:
    """The round that is open, with everyone who uploaded and no one else."""
    total = await net.finish()
    assert net.survivors == sorted(net.uploads)
    assert total == net.true_sum(net.survivors)


async def next_round_completes(net: Deployed) -> None:
    with pytest.raises(RemoteError) as error:
        await net.finish()
    assert error.value.reason is Reason.TOO_FEW_ANSWERS
    await uploaded(net)
    await completes(net)
    assert net.survivors == list(net.cohort)


# -- different survivor sets to different peers ----------------------------------------------------------

# Each honest peer is shown the victim, itself and the colluder. So it gives its share of the victim's self
# seed, and of everybody else's mask key; what the colluder holds it has anyway, and its own key as well.
POOR = {VICTIM: (0, 1, 4), 1: (0, 1, 4), 2: (0, 2, 4), 3: (0, 3, 4)}
# Two halves, each shown four survivors, of whom only 0 and 1 stand in both sums.
RICH = {0: (0, 1, 3, 4), 3: (0, 1, 3, 4), 1: (0, 1, 2, 4), 2: (0, 1, 2, 4)}


async def split_attack(
    net: Deployed, sets: dict[int, tuple[int, ...]]
) -> tuple[Loot, list[Reason]]:
    await uploaded(net, min_survivors=3)
    loot, refusals = await net.show(sets)
    loot.take_everything_of(COLLUDER)
    assert all(net.rejected(reason) == len(refusals) for reason in refusals)
    return loot, refusals


async def test_split_sets_bare_the_victim_of_a_build_without_agreement_and_isolation_check(
    tmp_path: Path,
) -> None:
    with removed(ISOLATION):
        async with Deployed(tmp_path, PEERS, kind=WithoutAgreement) as net:
            loot, refusals = await split_attack(net, POOR)
    assert not refusals
    assert loot.bares([VICTIM])


@pytest.mark.parametrize("kind", [PeerRound, WithoutAgreement])
async def test_split_sets_that_are_poor_are_refused(tmp_path: Path, kind: type[PeerRound]) -> None:
    async with Deployed(tmp_path, PEERS, kind=kind) as net:
        loot, refusals = await split_attack(net, POOR)
        assert refusals == [Reason.ISOLATED_SURVIVOR] * 4
        assert loot.sum_of([VICTIM]) is None
        await completes(net)


async def test_agreement_alone_stops_split_sets(tmp_path: Path) -> None:
    async with Deployed(tmp_path, PEERS) as net:
        with removed(ISOLATION):
            loot, refusals = await split_attack(net, POOR)
        assert refusals == [Reason.TOO_FEW_AGREEMENTS] * 4
        assert loot.sum_of([VICTIM]) is None
        await next_round_completes(net)


async def test_two_rich_sets_bare_the_sum_of_two_of_a_build_without_agreement(
    tmp_path: Path,
) -> None:
    async with Deployed(tmp_path, PEERS, kind=WithoutAgreement) as net:
        loot, refusals = await split_attack(net, RICH)
    assert not refusals
    assert loot.bares([0, 1])


async def test_agreement_stops_two_rich_sets(tmp_path: Path) -> None:
    async with Deployed(tmp_path, PEERS) as net:
        loot, refusals = await split_attack(net, RICH)
        assert refusals == [Reason.TOO_FEW_AGREEMENTS] * 4
        assert loot.sum_of([0, 1]) is None
        await next_round_completes(net)


# -- one set for all, which isolates a peer that was kept from another ------------------------------------


async def isolating_attack(net: Deployed) -> tuple[Loot, list[Reason]]:
    net.cut(VICTIM, 1, Exchange, Ready)
    await net.begin(net.make_ticket(min_survivors=3))
    rounds = [round_of(net, index) for index in EVERYONE]
    met = [3, 3, 4, 4, 4]
    await net.until(lambda: [len(r._of.held) for r in rounds] == met)
    net.skip_to(net.ticket.deadlines.exchange)
    await net.until(lambda: [len(r._counted()) for r in rounds] == met)
    net.skip_to(net.ticket.deadlines.ready)
    await net.upload()
    loot, refusals = await net.show(dict.fromkeys(EVERYONE, (VICTIM, 1, COLLUDER)))
    loot.take_everything_of(COLLUDER)
    return loot, refusals


async def test_a_poor_set_bares_an_isolated_victim_of_a_build_without_the_check(
    tmp_path: Path,
) -> None:
    with removed(ISOLATION):
        async with Deployed(tmp_path, PEERS, kind=CountsNoFailures) as net:
            loot, refusals = await isolating_attack(net)
    assert not refusals  # it is one set, and all agree to it
    assert loot.bares([VICTIM])


async def test_of_a_poor_set_too_few_can_count_the_failures(tmp_path: Path) -> None:
    with removed(ISOLATION):
        async with Deployed(tmp_path, PEERS) as net:
            loot, refusals = await isolating_attack(net)
    assert refusals == [Reason.TOO_FEW_AGREEMENTS] * PEERS
    assert loot.sum_of([VICTIM]) is None


async def test_a_poor_set_is_refused_by_everyone(tmp_path: Path) -> None:
    async with Deployed(tmp_path, PEERS) as net:
        loot, refusals = await isolating_attack(net)
        assert refusals == [Reason.ISOLATED_SURVIVOR] * PEERS
        assert net.rejected(Reason.ISOLATED_SURVIVOR) == PEERS
        assert loot.sum_of([VICTIM]) is None
        total = await net.finish()
        assert total == net.true_sum(net.survivors)
        # 0 and 1 each have three others, but t + 1 have to hold everyone's share of the failures.
        assert len(net.survivors) == PEERS - 1
        assert set(net.cohort[2:]) <= set(net.survivors)


# -- survivors below the floor ---------------------------------------------------------------------------


async def lonely_attack(net: Deployed) -> tuple[Loot, list[Reason]]:
    await uploaded(net)
    return await net.show(dict.fromkeys(EVERYONE, (VICTIM,)))


async def test_a_sum_of_one_is_opened_by_a_build_without_floor_and_isolation_check(
    tmp_path: Path,
) -> None:
    with removed(FLOOR, ISOLATION, COUNT):
        async with Deployed(tmp_path, PEERS) as net:
            loot, refusals = await lonely_attack(net)
    assert not refusals
    assert loot.bares([VICTIM])


async def test_survivors_below_the_floor_are_refused(tmp_path: Path) -> None:
    async with Deployed(tmp_path, PEERS) as net:
        with removed(ISOLATION, COUNT):
            loot, refusals = await lonely_attack(net)
        assert refusals == [Reason.TOO_FEW_SURVIVORS] * PEERS
        assert net.rejected(Reason.TOO_FEW_SURVIVORS) == PEERS
        assert not loot.shares
        await completes(net)


# -- unmask twice ------------------------------------------------------------------------------------------


async def second_set_attack(net: Deployed) -> tuple[Loot, list[Reason]]:
    """The sum of everyone, honestly; then again with the victim as dropped."""
    await uploaded(net)
    loot, refusals = await net.show(dict.fromkeys(EVERYONE, EVERYONE))
    assert not refusals
    assert loot.bares(EVERYONE)
    more, refusals = await net.show(dict.fromkeys(EVERYONE, EVERYONE[1:]))
    loot.take_all(more)
    loot.take_everything_of(COLLUDER)
    return loot, refusals


async def test_a_second_set_bares_the_difference_at_peers_that_forget_the_first(
    tmp_path: Path,
) -> None:
    async with Deployed(tmp_path, PEERS, kind=ForgetsSurvivors) as net:
        loot, refusals = await second_set_attack(net)
    assert not refusals
    assert loot.bares([VICTIM])


async def test_a_second_set_is_refused(tmp_path: Path) -> None:
    async with Deployed(tmp_path, PEERS) as net:
        loot, refusals = await second_set_attack(net)
        assert refusals == [Reason.SECOND_SURVIVOR_SET] * PEERS
        assert net.rejected(Reason.SECOND_SURVIVOR_SET) == PEERS
        assert loot.sum_of([VICTIM]) is None
        await completes(net)  # asked again for the first, all answer the same again


# -- unmask before the upload ------------------------------------------------------------------------------


async def early_attack(net: Deployed) -> list[Reason]:
    """Everyone masked, and the victim has not uploaded: the aggregator has its header all the same."""
    await net.begin()
    await net.upload(net.cohort[1:])
    masks, meta = await net.masks(net.cohort[VICTIM])
    vector = masks.apply(net.addends[net.cohort[VICTIM]].copy()).tobytes()
    net.uploads[net.cohort[VICTIM]] = wire.upload_from(meta, vector)
    return (await net.show({VICTIM: EVERYONE}))[1]


async def test_nobody_is_counted_as_a_survivor_before_its_upload(tmp_path: Path) -> None:
    async with Deployed(tmp_path, PEERS) as net:
        assert await early_attack(net) == [Reason.WRONG_PHASE]
        assert net.rejected(Reason.WRONG_PHASE) == 1
        victim = net.cohort[VICTIM]
        await net.freeze(victim, net.uploads[victim].vector)
        await completes(net)
    with removed(check(PeerRound, "survivors", Reason.WRONG_PHASE)):
        async with Deployed(tmp_path / "without", PEERS) as net:
            # Nothing can be refused but for want of agreements.
            assert await early_attack(net) == [Reason.TOO_FEW_AGREEMENTS]


# -- forged and stripped headers ---------------------------------------------------------------------------

# What the others go by, when they look for isolated survivors, is the victim's own signed header.
HEADER_SIGNED = check(Header, "check", "check_signature")
HEADERS_COMPLETE = check(survivors_module, "_check_complete", Reason.BAD_HEADER)


async def forged_header_attack(net: Deployed) -> tuple[Loot, list[Reason]]:
    """The victim dealt to everyone, and hears of nobody but the colluder that it is ready.

    The others are told that it counts all of them.
    """
    others = (1, 2, 3)
    for index in others:
        net.cut(VICTIM, index, Ready)
    await net.begin()
    rounds = [round_of(net, index) for index in EVERYONE]
    await net.until(lambda: [len(r._counted()) for r in rounds] == [1, 3, 3, 3, 4])
    net.skip_to(net.ticket.deadlines.ready)
    await net.upload()
    headers = headers_of(net, EVERYONE)
    for index in (VICTIM, *others):
        everyone = [j for j in EVERYONE if j != index]
        headers[index] = header(net, index, everyone, signer="aggregator")
    # Not to the victim, which knows better.
    lie = survivors(net, EVERYONE, headers)
    loot, refusals = await net.show(dict.fromkeys((*others, COLLUDER), lie))
    loot.take_everything_of(COLLUDER)
    return loot, refusals


async def test_forged_headers_hide_that_the_victim_is_isolated_where_they_are_not_checked(
    tmp_path: Path,
) -> None:
    with removed(HEADER_SIGNED):
        async with Deployed(tmp_path, PEERS, kind=CountsAnyNumber) as net:
            loot, refusals = await forged_header_attack(net)
    assert not refusals
    assert loot.bares([VICTIM])


async def test_forged_headers_are_refused(tmp_path: Path) -> None:
    async with Deployed(tmp_path, PEERS, kind=CountsAnyNumber) as net:
        loot, refusals = await forged_header_attack(net)
        assert refusals == [Reason.BAD_SIGNATURE] * 4
        assert net.rejected(Reason.BAD_SIGNATURE) == 4
        assert loot.sum_of([VICTIM]) is None
        del net.uploads[net.cohort[VICTIM]]  # no honest peer uploads with so few that count
        await completes(net)


async def stripped_attack(net: Deployed) -> tuple[Loot, list[Reason]]:
    """The set of everyone, without the header of one."""
    await uploaded(net)
    lie = survivors(net, EVERYONE, headers_of(net, EVERYONE[1:]))
    return await net.show(dict.fromkeys(EVERYONE, lie))


async def test_a_set_without_the_header_of_a_survivor_is_refused(tmp_path: Path) -> None:
    async with Deployed(tmp_path, PEERS) as net:
        loot, refusals = await stripped_attack(net)
        assert refusals == [Reason.BAD_HEADER] * PEERS
        assert net.rejected(Reason.BAD_HEADER) == PEERS
        assert not loot.shares
        await completes(net)


async def test_without_the_check_survivors_are_opened_of_whom_nobody_saw_a_header(
    tmp_path: Path,
) -> None:
    with removed(HEADERS_COMPLETE, COUNT):
        async with Deployed(tmp_path, PEERS) as net:
            loot, refusals = await stripped_attack(net)
    assert not refusals
    assert loot.seed(VICTIM)


async def test_a_set_without_the_hash_of_a_dropped_announcement_is_refused(tmp_path: Path) -> None:
    async with Deployed(tmp_path, PEERS) as net:
        await uploaded(net)
        dropped_one = survivors(net, EVERYONE[:-1])
        stripped = wire.survivors_to_proto(dropped_one, net.ticket)
        del stripped.others[:]
        call = net.stub(net.aggregator, VICTIM).Unmask(stripped, timeout=LONG_S)
        assert await outcome(call) is Reason.BAD_HEADER
        assert net.rejected(Reason.BAD_HEADER) == 1
        await completes(net)
