"""Tickets that a lying aggregator signs, and a ClientApp or an agent that starts over, over gRPC.

A ticket comes by the ClientApp, as Flower brings it, and from another peer; both are refused alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from smpc.v1 import local_pb2 as local_pb
from smpcfl.net import wire
from smpcfl.protocol.admission import Admission
from smpcfl.protocol.base_round import BaseRound
from smpcfl.protocol.errors import Reason
from smpcfl.protocol.policy import Policy
from smpcfl.protocol.ticket import HOUR_MS, Deadlines, SignedTicket, Ticket
from support.deployed import LONG_S, Deployed, beginning, outcome
from support.forge import round_of, survivors
from support.unchecked import Check, check, removed
from support.weakened import MasksTwice

pytestmark = pytest.mark.sockets

PEERS = 4  # three neighbours each
TO = 0


async def completes(net: Deployed) -> None:
    assert await net.finish() == net.true_sum(net.cohort)
    assert net.survivors == list(net.cohort)


# -- tickets -------------------------------------------------------------------------------------------------


@dataclass
class Lie:
    """A ticket made from the one that runs, the reason to refuse it, and the checks that do so."""

    make: Callable[[Deployed], SignedTicket]
    reason: Reason
    stopped_by: tuple[Check, ...]


def changed(reason: Reason, **changes: object) -> Lie:
    """A fresh ticket with a good signature, beyond what peers follow."""

    def make(net: Deployed) -> SignedTicket:
        return net.sign(replace(net.ticket, serial=net.ticket.serial + 1, **changes))  # type: ignore[arg-type]

    return Lie(make, reason, (check(Policy, "check", reason),))


def serial(reason: Reason, offset: int) -> Lie:
    """A ticket that only differs in serial and nonce."""

    def make(net: Deployed) -> SignedTicket:
        number = net.ticket.serial + offset
        return net.sign(replace(net.ticket, serial=number, nonce=bytes(32)))

    return Lie(make, reason, (check(Admission, "check", reason),))


def altered(net: Deployed) -> SignedTicket:
    later = replace(net.ticket, serial=net.ticket.serial + 1, min_survivors=3)
    return SignedTicket(later, net.signed.signature)


OTHER_MODEL = bytes([2]) * 32  # the ledger has no say in it
SMALL = (check(Ticket, "__post_init__", Reason.MALFORMED),)


def of_two(net: Deployed) -> SignedTicket:
    with removed(*SMALL):  # else it could not be put into words
        two = replace(
            net.ticket,
            serial=net.ticket.serial + 1,
            cohort=net.cohort[:2],
            threshold=1,
            min_survivors=2,
            model_digest=OTHER_MODEL,
        )
        return net.sign(two)


LIES = {
    "two for one serial": serial(Reason.STALE_SERIAL, 0),
    "an older serial": serial(Reason.STALE_SERIAL, -1),
    "two hours ahead": serial(Reason.FUTURE_SERIAL, 2 * HOUR_MS),
    "an old signature": Lie(
        altered, Reason.BAD_SIGNATURE, (check(Admission, "check", Reason.BAD_SIGNATURE),)
    ),
    "a threshold of one": changed(Reason.POLICY_THRESHOLD, threshold=1, model_digest=OTHER_MODEL),
    "two thirds and no more": changed(Reason.POLICY_THRESHOLD, threshold=2),
    "two survivors": changed(Reason.POLICY_SURVIVORS, min_survivors=2),
    "a day to the deadlines": changed(
        Reason.POLICY_RANGE, deadlines=Deadlines(unmask=23 * HOUR_MS)
    ),
    "a cohort of two": Lie(
        of_two,
        Reason.MALFORMED,
        (
            *SMALL,
            check(Policy, "check", Reason.POLICY_COHORT),
            check(Policy, "check", Reason.POLICY_SURVIVORS),
        ),
    ),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
async def test_a_ticket_that_lies_is_refused_and_the_open_round_goes_on(
    tmp_path: Path, lie: Lie
) -> None:
    async with Deployed(tmp_path, PEERS) as net:
        await net.begin()
        signed = lie.make(net)
        offer, request = wire.ticket_to_proto(signed), beginning(signed)
        victim = net.peer(TO)
        other = net.stub(net.peer(1).own, TO)
        assert await outcome(victim.app.Begin(request, timeout=LONG_S)) is lie.reason
        assert await outcome(other.Offer(offer, timeout=LONG_S)) is lie.reason
        assert victim.rejected(lie.reason) == 2
        await net.upload()
        await completes(net)
        with removed(*lie.stopped_by):
            reply = await outcome(victim.app.Begin(request, timeout=LONG_S))
            assert isinstance(reply, local_pb.BeginReply)
            ticket = wire.ticket_from_proto(offer).ticket
            assert victim.agent.round_of(ticket.digest).ticket == ticket


async def test_two_tickets_for_one_serial_split_the_cohort_and_nobody_masks(tmp_path: Path) -> None:
    async with Deployed(tmp_path, PEERS) as net:
        first = net.make_ticket()
        second = net.sign(replace(first.ticket, nonce=bytes(32)))
        halves = (net.cohort[:2], net.cohort[2:])
        everyone = dict(net.peer(TO).directory.by_registry)
        for half in halves:
            for name in half:
                net.peers[name].directory.by_registry = {other: everyone[other] for other in half}
        await net.begin(first, without=(2, 3))
        await net.begin(second, without=(0, 1))
        for peer in net.peers.values():
            peer.directory.by_registry = everyone
        # Now each half offers its own ticket to the other.
        await net.until(lambda: all(p.rejected(Reason.STALE_SERIAL) for p in net.peers.values()))
        net.skip_to(net.ticket.deadlines.upload)
        for signed, half in zip((first, second), halves, strict=True):
            net.signed = signed
            for name in half:
                assert await outcome(net.masks(name)) is Reason.TOO_FEW_COUNTING
        await net.begin()
        await net.upload()
        await completes(net)


# -- another model or configuration than the ticket's --------------------------------------------------------

MISMATCHES: list[tuple[dict[str, Any], Reason]] = [
    ({"model_digest": bytes([1]) * 32}, Reason.MODEL_MISMATCH),
    ({"content_digest": bytes([1]) * 32}, Reason.CONFIG_MISMATCH),
    ({"flower_run": 2}, Reason.CONFIG_MISMATCH),  # of another app
    ({"flower_run": 3}, Reason.CONFIG_MISMATCH),  # of an app that the SuperNode did not verify
]


@pytest.mark.parametrize(("other", "reason"), MISMATCHES)
async def test_no_masks_for_what_the_ticket_does_not_name(
    tmp_path: Path, other: dict[str, Any], reason: Reason
) -> None:
    async with Deployed(tmp_path, PEERS) as net:
        await net.begin(without=[TO])
        victim, name = net.peer(TO), net.cohort[TO]
        asked = beginning(net.signed, **other)
        assert await outcome(victim.app.Begin(asked, timeout=LONG_S)) is reason
        assert victim.rejected(reason) == 1
        net.rounds[name] = victim.agent.round_of(net.ticket.digest)
        await net.until(lambda: all(round_of(net, index).all_count for index in range(PEERS)))
        assert await outcome(net.masks(name)) is Reason.WRONG_PHASE
        await victim.app.Begin(beginning(net.signed), timeout=LONG_S)  # it costs the round nothing
        await net.upload()
        await completes(net)
        await net.begin(without=[TO])
        asked = beginning(net.signed, **other)
        if other.get("flower_run") != 3:
            with removed(check(BaseRound, "begin", reason)):
                await victim.app.Begin(asked, timeout=LONG_S)


async def test_training_starts_once_under_a_ticket(tmp_path: Path) -> None:
    async with Deployed(tmp_path, PEERS) as net:
        await net.begin()
        victim, asked = net.peer(TO), beginning(net.signed)
        for times in (1, 2):
            assert await outcome(victim.app.Begin(asked, timeout=LONG_S)) is Reason.SECOND_TRAINING
            assert victim.rejected(Reason.SECOND_TRAINING) == times
        await net.upload()
        assert (await victim.app.Begin(asked, timeout=LONG_S)).frozen
        await completes(net)


# -- a ClientApp that starts over ----------------------------------------------------------------------------


async def test_masks_are_given_out_once(tmp_path: Path) -> None:
    async with Deployed(tmp_path, PEERS) as net:
        await net.begin()
        await net.upload()
        assert await outcome(net.masks(net.cohort[TO])) is Reason.MASKS_SPENT
        assert net.peer(TO).rejected(Reason.MASKS_SPENT) == 1
        await completes(net)


async def test_masks_given_out_twice_bare_the_difference_of_two_updates(tmp_path: Path) -> None:
    async with Deployed(tmp_path, PEERS, kind=MasksTwice) as net:
        await net.begin()
        first, _ = await net.masks(net.cohort[TO])
        second, _ = await net.masks(net.cohort[TO])
        one, other = net.addends[net.cohort[TO]], net.addends[net.cohort[1]]
        assert first.apply(one.copy()) - second.apply(other.copy()) == one - other


async def test_a_second_upload_is_not_frozen(tmp_path: Path) -> None:
    async with Deployed(tmp_path, PEERS) as net:
        await net.begin()
        await net.upload()
        victim, name = net.peer(TO), net.cohort[TO]
        kept = net.uploads[name].vector
        another = bytes([kept[0] ^ 1]) + kept[1:]
        assert await outcome(net.freeze(name, another)) is Reason.MASKS_SPENT
        assert victim.rejected(Reason.MASKS_SPENT) == 1
        await net.freeze(name, kept)  # the same again is no lie
        again = await victim.app.Begin(beginning(net.signed), timeout=LONG_S)
        assert again.frozen
        request = local_pb.FrozenRequest(ticket_digest=net.ticket.digest)
        chunks = [chunk async for chunk in victim.app.Frozen(request, timeout=LONG_S)]
        assert b"".join(chunk.vector for chunk in chunks) == kept
        await completes(net)


# -- an agent that starts over -------------------------------------------------------------------------------


async def test_a_restarted_agent_takes_no_further_part_in_the_round(tmp_path: Path) -> None:
    async with Deployed(tmp_path, 5) as net:  # threshold 3: one may be lost
        await net.begin()
        rounds = [round_of(net, index) for index in range(5)]
        await net.until(lambda: all(round_.all_count for round_ in rounds))
        again, name = await net.restart(TO), net.cohort[TO]
        request = beginning(net.signed)
        assert await outcome(again.app.Begin(request, timeout=LONG_S)) is Reason.STALE_SERIAL
        assert await outcome(net.masks(name)) is Reason.UNKNOWN_TICKET
        await net.upload(net.cohort[1:])
        assert await net.unmask(TO, survivors(net, range(1, 5))) is Reason.UNKNOWN_TICKET
        assert await net.finish() == net.true_sum(net.cohort[1:])
        with removed(check(Admission, "check", Reason.STALE_SERIAL)):
            await again.app.Begin(request, timeout=LONG_S)
        twice = again.agent.seeded(net.ticket.digest).announcement
        assert twice != rounds[TO].announcement  # two sets of secrets under one ticket
