"""The main attacks once more, over gRPC and mutual TLS, against agents as they are served."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from smpcfl import wire
from smpcfl.aggregator.unmask import Unmasking
from smpcfl.protocol.aggregator import AggregatorRound
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.keystream import Secret
from smpcfl.protocol.messages import Answer, Header
from smpcfl.protocol.peer import PeerRound
from smpcfl.protocol.ticket import Admission
from support.agents import NOWHERE, agents, refusal
from support.attacker import Loot
from support.forge import header, headers_of, survivors
from support.network import peer_ids
from support.unchecked import check, removed
from support.weakened import ForgetsSurvivors, WithoutAgreement

PEERS = peer_ids(5)
EVERYONE = tuple(range(5))
VICTIM = 0


# -- split survivor sets --------------------------------------------------------------------------------

# As in test_survivor_sets.py: each is unobjectionable, peer 4 colludes, 0 and 1 are what is wanted.
RICH_SETS = {0: (0, 1, 3, 4), 3: (0, 1, 3, 4), 1: (0, 1, 2, 4), 2: (0, 1, 2, 4)}


async def split(
    folder: Path, sets: dict[int, Sequence[int]], kind: type[PeerRound] = PeerRound
) -> tuple[bool, list[Reason | None]]:
    """Whether 0 and 1 are bared, and how each peer refused the set that it was shown."""
    async with agents(folder, round_class=kind) as cohort:
        await cohort.begin()
        await cohort.upload()
        loot = Loot(cohort.network)

        async def ask(index: int, members: Sequence[int]) -> None:
            answer = await cohort.unmask(PEERS[index], survivors(cohort.network, members))
            loot.take_answer(answer)

        asked = [asyncio.create_task(refusal(ask(*item))) for item in sets.items()]
        waiting = [asyncio.create_task(cohort.agreed(PEERS[index])) for index in sets]
        await asyncio.wait(
            [asyncio.gather(*asked), asyncio.gather(*waiting)], return_when=asyncio.FIRST_COMPLETED
        )
        cohort.skip_to(cohort.ticket.deadlines.agree)
        refusals = [await task for task in asked]
        for task in waiting:
            task.cancel()
        for index, reason in zip(sets, refusals, strict=True):
            assert reason is None or cohort.parties[PEERS[index]].rejected(reason) >= 1
        loot.take_everything_of(4)
        return loot.bares([0, 1]), refusals


async def test_agreement_stops_two_rich_sets(tmp_path: Path) -> None:
    assert await split(tmp_path, RICH_SETS) == (False, [Reason.TOO_FEW_AGREEMENTS] * 4)


async def test_two_rich_sets_bare_the_sum_of_two_without_agreement(tmp_path: Path) -> None:
    assert await split(tmp_path, RICH_SETS, WithoutAgreement) == (True, [None] * 4)


async def test_poor_sets_are_refused(tmp_path: Path) -> None:
    sets = {j: tuple(sorted({0, j, j % 4 + 1})) for j in range(1, 5)}
    assert await split(tmp_path, sets) == (False, [Reason.TOO_FEW_SURVIVORS] * 4)


# -- unmask twice, and before the upload ----------------------------------------------------------------


async def twice(folder: Path, kind: type[PeerRound]) -> tuple[bool, list[Reason | None]]:
    """First everyone survives, then everyone but the victim."""
    async with agents(folder, round_class=kind) as cohort:
        await cohort.begin()
        await cohort.upload()
        loot, refusals = Loot(cohort.network), list[Reason | None]()

        async def ask(index: int, members: Sequence[int]) -> None:
            answer = await cohort.unmask(PEERS[index], survivors(cohort.network, members))
            loot.take_answer(answer)

        for members in (EVERYONE, EVERYONE[1:]):
            asked = [refusal(ask(index, members)) for index in members]
            refusals += await asyncio.gather(*asked)
        assert loot.bares(EVERYONE)
        return loot.bares([VICTIM]), refusals


async def test_a_second_survivor_set_is_refused(tmp_path: Path) -> None:
    assert await twice(tmp_path, PeerRound) == (
        False,
        [None] * 5 + [Reason.SECOND_SURVIVOR_SET] * 4,
    )


async def test_a_second_survivor_set_bares_the_victim_where_the_first_is_forgotten(
    tmp_path: Path,
) -> None:
    assert await twice(tmp_path, ForgetsSurvivors) == (True, [None] * 9)


async def before_upload(folder: Path) -> list[Reason | None]:
    """Headers are made up for all, as none has uploaded."""
    async with agents(folder) as cohort:
        await cohort.begin()
        await cohort.all_ready()
        network = cohort.network
        headers = [
            header(network, i, [j for j in EVERYONE if j != i], signer="aggregator")
            for i in EVERYONE
        ]
        message = survivors(network, EVERYONE, headers)
        return [await refusal(cohort.unmask(peer, message)) for peer in PEERS]


async def test_unmask_before_upload_is_refused(tmp_path: Path) -> None:
    assert await before_upload(tmp_path / "sound") == [Reason.BAD_SIGNATURE] * 5
    with removed(check(Header, "check", "check_signature")):
        # Nobody's own header deceives it: each knows that it has not uploaded.
        assert await before_upload(tmp_path / "weak") == [Reason.WRONG_PHASE] * 5


async def test_stripped_headers_are_refused(tmp_path: Path) -> None:
    async with agents(tmp_path) as cohort:
        await cohort.begin()
        await cohort.upload()
        network = cohort.network
        fewer = survivors(network, EVERYONE, headers_of(network, EVERYONE[:-1]))
        stripped = wire.survivors_to_proto(survivors(network, EVERYONE[1:]), cohort.ticket)
        del stripped.others[:]  # the hash of the dropped one's announcement
        stub = cohort.stub(cohort.aggregator, PEERS[VICTIM])
        assert await refusal(cohort.unmask(PEERS[VICTIM], fewer)) is Reason.BAD_HEADER
        assert await refusal(stub.Unmask(stripped, timeout=20)) is Reason.BAD_HEADER
        assert cohort.parties[PEERS[VICTIM]].rejected(Reason.BAD_HEADER) == 2


# -- two tickets for one round --------------------------------------------------------------------------


async def second_ticket(folder: Path) -> Reason | None:
    """Under the serial of the running one, with other contents; a colluding peer passes it on."""
    async with agents(folder) as cohort:
        await cohort.begin()
        second = cohort.sign(cohort.signed, nonce=b"\x01" * 32)
        stub = cohort.stub(cohort.parties[PEERS[4]].own, PEERS[VICTIM])
        return await refusal(stub.Offer(wire.ticket_to_proto(second), timeout=20))


async def test_a_second_ticket_for_one_round_is_refused(tmp_path: Path) -> None:
    assert await second_ticket(tmp_path / "sound") is Reason.STALE_SERIAL
    with removed(check(Admission, "check", Reason.STALE_SERIAL)):
        assert await second_ticket(tmp_path / "weak") is None


async def test_a_ticket_beyond_the_policy_is_refused(tmp_path: Path) -> None:
    async with agents(tmp_path) as cohort:
        await cohort.begin()
        lax = cohort.sign(cohort.signed, serial=cohort.ticket.serial + 1, threshold=1)
        stub = cohort.stub(cohort.parties[PEERS[4]].own, PEERS[VICTIM])
        offer = stub.Offer(wire.ticket_to_proto(lax), timeout=20)
        assert await refusal(offer) is Reason.POLICY_THRESHOLD
        assert cohort.parties[PEERS[VICTIM]].rejected(Reason.POLICY_THRESHOLD) == 1


# -- a bad share, where the aggregator is the honest one ------------------------------------------------


class BadHolder(PeerRound):
    """Peer 3 shows shares that it was not dealt."""

    def answer(self, now: float) -> Answer | None:
        answer = super().answer(now)
        if answer is None or self.me != 3:
            return answer
        shown = [replace(item, share=Secret(bytes(33))) for item in answer.self_shares]
        return replace(answer, self_shares=tuple(shown))


async def test_the_aggregator_reports_the_holder_of_a_bad_share(tmp_path: Path) -> None:
    reported: list[RemoteError] = []
    async with agents(tmp_path, round_class=BadHolder) as cohort:
        await cohort.begin()
        await cohort.upload()
        members = cohort.parties[PEERS[0]].directory.members
        state = AggregatorRound(cohort.signed, cohort.aggregator.signer, members)
        for peer, upload in cohort.uploads.items():
            state.upload(peer, upload)
        state.fix_survivors()
        folder = tmp_path / "aggregator"
        async with Unmasking(cohort.aggregator, NOWHERE, folder, reported.append) as unmasking:
            unmasking.directory.by_registry = {p: cohort.parties[p].address for p in PEERS}
            await asyncio.gather(*(unmasking._ask(state, peer) for peer in PEERS))
        loot = Loot(cohort.network)
        assert state.total() == loot.true_sum(EVERYONE)
    assert [(error.reason, error.peer) for error in reported] == [(Reason.BAD_SHARE, PEERS[3])]
