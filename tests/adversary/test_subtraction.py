"""Sums over one model whose survivors differ by little: what one has and the other has not is one peer.

Training is deterministic and the rounding given, so that the same peers add the same in each round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smpc.v1 import local_pb2 as local_pb
from smpcfl.net import certificates
from smpcfl.net.certificates import Role
from smpcfl.protocol import ledger as ledger_module
from smpcfl.protocol import peer_round as peer_module
from smpcfl.protocol import trailer
from smpcfl.protocol.errors import Reason
from smpcfl.protocol.ledger import Ledger
from smpcfl.protocol.policy import Policy
from smpcfl.protocol.ring import RingVector
from smpcfl.protocol.ticket import SignedTicket
from support.attacker import show
from support.deployed import LONG_S, Deployed, beginning, outcome
from support.network import make_ticket, peer_ids, random_addend
from support.remembering import Remembering
from support.unchecked import check, removed

PEERS, VICTIM = 8, 7
EVERYONE = tuple(range(PEERS))
ALL_BUT_ONE = EVERYONE[:VICTIM]
MODEL = bytes([9]) * 32
TOO_CLOSE = check(ledger_module, "_check_apart", Reason.CONFLICTING_SURVIVORS)
TOO_MANY = (
    check(Ledger, "agree", Reason.CONFLICTING_SURVIVORS),
    check(peer_module, "check_earlier", Reason.CONFLICTING_SURVIVORS),
)


class Repeated:
    """Rounds of one deployment over one model, with the same updates in all."""

    def __init__(self, net: Deployed) -> None:
        self.net = net
        layout = make_ticket(PEERS).ticket.layout
        rng = np.random.default_rng(1)
        self.addends = {name: random_addend(layout, rng) for name in net.cohort}

    async def sum(self, members: Sequence[int], **changes: Any) -> RingVector | list[Reason]:
        """Σ q_i over `members`, whom the aggregator calls the survivors; or why peers refuse that."""
        net = self.net
        await net.begin(net.make_ticket(model_digest=MODEL, **changes))
        net.addends = dict(self.addends)
        await net.upload()
        loot, refusals = await net.show(dict.fromkeys(EVERYONE, tuple(members)))
        total = loot.sum_of(members)
        return refusals if total is None else total


async def restart_all(net: Deployed) -> None:
    """Every agent starts again with what is on its disk, at another address."""
    for index in EVERYONE:
        await net.restart(index)
    for peer in net.peers.values():
        peer.directory.by_registry = net.addresses()


async def all_and_all_but_one(net: Deployed, *, restart: bool = False) -> RingVector | list[Reason]:
    """Over one model, first everybody, then all but the victim: what is left of the first."""
    repeated = Repeated(net)
    first = await repeated.sum(EVERYONE)
    assert isinstance(first, RingVector)
    if restart:
        await restart_all(net)
    second = await repeated.sum(ALL_BUT_ONE)
    if isinstance(second, list):
        return second
    assert first - second == repeated.addends[net.cohort[VICTIM]]
    return first - second


@pytest.mark.sockets
async def test_a_cohort_less_one_gives_that_one_where_nobody_remembers(tmp_path: Path) -> None:
    with removed(TOO_CLOSE):
        async with Deployed(tmp_path, PEERS) as net:
            assert isinstance(await all_and_all_but_one(net), RingVector)


@pytest.mark.sockets
async def test_a_cohort_less_one_is_refused_by_everyone(tmp_path: Path) -> None:
    async with Deployed(tmp_path, PEERS) as net:
        assert await all_and_all_but_one(net) == [Reason.CONFLICTING_SURVIVORS] * PEERS
        assert net.rejected(Reason.CONFLICTING_SURVIVORS) == PEERS


@pytest.mark.sockets
async def test_a_cohort_less_one_is_refused_after_a_restart_too(tmp_path: Path) -> None:
    async with Deployed(tmp_path, PEERS) as net:
        found = await all_and_all_but_one(net, restart=True)
        assert found == [Reason.CONFLICTING_SURVIVORS] * PEERS


@pytest.mark.sockets
async def test_a_ledger_that_is_lost_gives_that_one_after_a_restart(tmp_path: Path) -> None:
    async with Deployed(tmp_path, PEERS) as net:
        repeated = Repeated(net)
        first = await repeated.sum(EVERYONE)
        for index in EVERYONE:
            (tmp_path / str(index) / "ledger.sqlite").unlink()
        await restart_all(net)
        second = await repeated.sum(ALL_BUT_ONE)
        assert isinstance(first, RingVector)
        assert isinstance(second, RingVector)
        assert first - second == repeated.addends[net.cohort[VICTIM]]


# -- sets that are far enough apart, and still isolate one ----------------------------------------------

MANY = 14  # four may be called lost
ALL = frozenset(range(MANY))
# (S1 − S2) + (S1 − S3) − (S1 − S4) is twice the victim.
FAR_APART = [ALL, ALL - {0, 1, 2}, ALL - {0, 3, 4}, ALL - {1, 2, 3, 4}]


def isolating() -> tuple[list[RingVector | list[Reason]], RingVector]:
    """The sums over these sets, each after a ticket of its own, and what the victim added."""
    ledgers: dict[str, Ledger] = {}
    sums: list[RingVector | list[Reason]] = []
    for serial, members in enumerate(FAR_APART, 1):
        # So few survivors that it withstands one colluder, and three apart are enough.
        ticket = make_ticket(MANY, serial=serial, model_digest=MODEL, min_survivors=3)
        net = Remembering(ticket, ledgers=ledgers).until("upload")
        chosen = tuple(sorted(members))
        loot, refusals = show(net, dict.fromkeys(range(MANY), chosen))
        total = loot.sum_of(chosen)
        sums.append(refusals if total is None else total)
    return sums, net.addends[net.ticket.cohort[0]]


def test_four_sets_pairwise_three_apart_isolate_one_peer_where_nobody_counts_them() -> None:
    assert (
        min(len(a ^ b) for a in FAR_APART for b in FAR_APART if a != b) >= Policy().min_difference
    )
    with removed(*TOO_MANY):
        (one, two, three, four), own = isolating()
    for item in (one, two, three, four):
        assert isinstance(item, RingVector)
    found = (one - two) + (one - three) - (one - four)  # type: ignore[operator]
    assert found == own + own


def test_over_one_model_the_third_set_is_refused() -> None:
    (one, two, three, four), _ = isolating()
    assert isinstance(one, RingVector)
    assert isinstance(two, RingVector)
    assert three == four == [Reason.CONFLICTING_SURVIVORS] * MANY


# -- one set of survivors, and one of them a zero ---------------------------------------------------------

ANSWERS = check(Ledger, "answer", Reason.CONFLICTING_SURVIVORS)


def with_and_without() -> tuple[RingVector | None, list[Reason], RingVector]:
    """Twice the same survivors over one model; the second time the victim's training was made to fail."""
    ledgers: dict[str, Ledger] = {}
    sums: list[RingVector | None] = []
    for serial, failing in enumerate((set[str](), {peer_ids(PEERS)[VICTIM]}), 1):
        ticket = make_ticket(PEERS, serial=serial, model_digest=MODEL)
        net = Remembering(ticket, ledgers=ledgers, failing=failing).until("upload")
        loot, refusals = show(net, dict.fromkeys(EVERYONE, EVERYONE))
        sums.append(loot.sum_of(EVERYONE))
        if not failing:
            own = net.addends[net.ticket.cohort[VICTIM]]
    first, second = sums
    assert first is not None
    return None if second is None else first - second, refusals, own


def test_a_zero_under_the_same_survivors_gives_the_victim_where_nobody_counts_it() -> None:
    with removed(ANSWERS):
        found, refused, own = with_and_without()
    assert not refused
    assert found is not None
    assert np.array_equal(found.body, own.body)


def test_a_second_sum_with_a_zero_is_answered_by_nobody() -> None:
    found, refused, _ = with_and_without()
    assert found is None
    assert set(refused) == {Reason.CONFLICTING_SURVIVORS}
    assert len(refused) >= PEERS


# -- nearly the same model: not told apart ----------------------------------------------------------------


def test_two_tickets_a_bit_tell_whether_one_named_peers_training_fails() -> None:
    """It works, and stands in the threat model with its rate: rules bind one model, and these differ."""
    bits = [True, False, False, True, True, False]  # on which crafted models the last of six fails
    six, ledgers, read = 6, dict[str, Ledger](), []

    def contributors(number: int, peers: int, fails: bool) -> int:
        model = number.to_bytes(32, "big")
        ticket = make_ticket(peers, serial=number, model_digest=model)
        failing = {peer_ids(six)[-1]} if fails and peers == six else set[str]()
        net = Remembering(ticket, ledgers=ledgers, failing=failing)
        total = net.run()
        assert not net.errors
        return trailer.decode(total.wide[-trailer.LENGTH :], peers).contributors

    for number, bit in enumerate(bits):
        others = contributors(2 * number + 1, six - 1, bit)
        read.append(contributors(2 * number + 2, six, bit) - others == 0)
    assert read == bits


# -- strangers among pinned members ---------------------------------------------------------------------


async def with_strangers(net: Deployed) -> list[Any]:
    """What the victim, who pins the other seven, says to a ticket in which two are others."""
    for name in ("peer-x", "peer-y"):  # whom the registry made up
        stranger = net.enrolled.identity(Role.PEER, name)
        for peer in net.peers.values():
            peer.members.add(certificates.der(stranger.certificate))
    cohort = tuple(sorted((*net.cohort[2:], "peer-x", "peer-y")))
    signed = net.make_ticket(cohort=cohort)
    return [await outcome(net.peer(VICTIM).app.Begin(beginning(signed), timeout=LONG_S))]


@pytest.mark.sockets
async def test_strangers_among_pinned_members_are_refused(tmp_path: Path) -> None:
    async with Deployed(tmp_path, PEERS) as net:
        pinned = replace(net.policy, members=frozenset(net.cohort))
        agent = net.peer(VICTIM).agent
        object.__setattr__(agent._admission, "policy", pinned)
        assert await with_strangers(net) == [Reason.POLICY_MEMBERS]
        await net.begin(without=EVERYONE[:-1])  # the pinned ones themselves are welcome
        with removed(check(Policy, "check", Reason.POLICY_MEMBERS)):
            (found,) = await with_strangers(net)
            assert isinstance(found, local_pb.BeginReply)


# -- as many tickets as one likes -----------------------------------------------------------------------


async def offered_61_times(net: Deployed) -> list[Any]:
    """Sixty-one rounds within the hour, each over a model of its own, to one peer alone."""
    victim = net.peer(VICTIM)
    victim.cut |= {(name, SignedTicket) for name in net.cohort}
    found = []
    for _ in range(61):
        signed = net.make_ticket()
        found.append(await outcome(victim.app.Begin(beginning(signed), timeout=LONG_S)))
    return found


@pytest.mark.sockets
async def test_the_61st_ticket_of_an_hour_is_refused(tmp_path: Path) -> None:
    async with Deployed(tmp_path, PEERS) as net:
        *before, last = await offered_61_times(net)
        assert all(isinstance(item, local_pb.BeginReply) for item in before)
        assert last is Reason.TOO_MANY_TICKETS
        again = await net.restart(VICTIM)
        request = beginning(net.make_ticket())
        assert await outcome(again.app.Begin(request, timeout=LONG_S)) is Reason.TOO_MANY_TICKETS
        with removed(check(Ledger, "check", Reason.TOO_MANY_TICKETS)):
            request = beginning(net.make_ticket())
            await again.app.Begin(request, timeout=LONG_S)
