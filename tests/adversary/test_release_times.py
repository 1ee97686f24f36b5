"""What the time of one peer's upload tells, where the aggregator chooses deadlines and restarts agents."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest

from smpcfl.flower.shared.records import upload_of
from smpcfl.peer import peer as peer_module
from smpcfl.peer.floors import Floors
from smpcfl.protocol import trailer
from smpcfl.protocol.release import DECAY, Floor
from smpcfl.protocol.ticket import Deadlines
from support.apps import PATIENT, App, Fails, Mods, fresh_model, made_up
from support.deployed import Deployed

pytestmark = pytest.mark.sockets

PEERS, VICTIM, INPUTS = 5, 2, 12
# On which tickets the victim's training fails at once: what its uploads must not tell.
BITS = [True, False, False, True, True, False, True, False]
STEP_S = 8.0  # the last one within 10.5 s


def within(training_ms: int) -> Deadlines:
    """With this time to train; the rest is patient."""
    return replace(PATIENT, train=PATIENT.ready + training_ms)


def at_once(self: Floor, released_ms: int, limit_ms: int, now_ms: int) -> None:
    """The floor as it was: a step down after ten uploads, whatever brought them about and how soon."""
    if released_ms > self.ms:
        self.ms, self.since = released_ms, 0
        return
    self.since += 1
    if self.since == DECAY:
        self.ms, self.since = round(self.ms / 2**0.5), 0


@contextmanager
def any_deadline() -> Iterator[None]:
    """A build in which the time to train is what the ticket says, and a floor is not moved at its end."""
    most: list[int] = []

    def training_ms(self: Deadlines) -> int:
        most[:] = [self.train - self.ready]
        return most[0]

    def unless_cut_off(self: Floor, released_ms: int, limit_ms: int, now_ms: int) -> None:
        if released_ms < most[0]:
            at_once(self, released_ms, limit_ms, now_ms)

    with (
        patch.object(Deadlines, "training_ms", property(training_ms)),
        patch.object(Floor, "left", unless_cut_off),
    ):
        yield


class Peers:
    """A deployment in which the victim trains for ten seconds, or fails at once."""

    def __init__(self, net: Deployed, mods: Mods) -> None:
        self.net, self.mods = net, mods
        self.name = net.cohort[VICTIM]

    async def left_s(self, fails: bool, deadlines: Deadlines) -> float:
        """When the victim's upload leaves, in seconds after its begin."""
        model = fresh_model(INPUTS)
        signed = self.mods.ticket(model, deadlines=deadlines)
        for other, peer in self.net.peers.items():
            if other != self.name:
                peer.agent.take_ticket(signed)  # as if offered: so many in seconds would be a flood
        app = Fails(*made_up(INPUTS), seconds=0.1) if fails else App(*made_up(INPUTS), seconds=10.0)
        called = await self.mods.ask(self.name, app, self.mods.message(signed, model))
        upload_of(called.reply)
        return round(called.left_s, 3)

    async def restart(self) -> None:
        await self.net.restart(VICTIM)
        for peer in self.net.peers.values():
            peer.directory.by_registry = self.net.addresses()

    async def contributors(self, slow_ms: int, limit_ms: int) -> int:
        """In a round whose slowest peer takes `slow_ms` to train, of `limit_ms`."""
        model = fresh_model(INPUTS)
        signed = self.mods.ticket(model, deadlines=within(limit_ms), clip=4.0)
        apps = {name: App(*made_up(INPUTS), seconds=3.0) for name in self.net.cohort}
        apps[self.name].seconds = slow_ms / 1000
        message = self.mods.message(signed, model)
        await self.mods.train(signed, apps, dict.fromkeys(apps, message).__getitem__)
        for name in self.net.cohort:
            self.net.addends.setdefault(name, signed.ticket.layout.zeros())
        total = await self.net.finish()
        return trailer.decode(total.wide[-trailer.LENGTH :], PEERS).contributors


# -- deadlines --------------------------------------------------------------------------------------------


async def told_by_a_deadline(folder: Path, before: int) -> list[float]:
    """After `before` rounds with the usual deadlines, some with one between two steps, above the floor."""
    async with Deployed(folder, PEERS) as net:
        with Mods(net) as mods:
            peers = Peers(net, mods)
            for _ in range(before):
                await peers.left_s(False, PATIENT)
            await peers.left_s(False, within(10_500))
            return [await peers.left_s(bit, within(10_500)) for bit in BITS]


@pytest.mark.parametrize("before", [0, 11])
async def test_a_deadline_between_two_steps_keeps_the_floor_down_where_it_is_taken_as_it_is(
    tmp_path: Path, before: int
) -> None:
    """Eleven rounds: then the floor came down by a step, which is below that deadline."""
    with any_deadline():
        left = await told_by_a_deadline(tmp_path, before)
    assert [item < 10.5 for item in left] == BITS


@pytest.mark.parametrize("before", [0, 11])
async def test_a_deadline_is_one_of_the_steps_and_moves_the_floor_like_any(
    tmp_path: Path, before: int
) -> None:
    assert set(await told_by_a_deadline(tmp_path, before)) == {STEP_S}


async def counts(folder: Path) -> list[int]:
    """How many contribute, by a deadline just below and just above what the slowest peer takes."""
    async with Deployed(folder, PEERS) as net:
        with Mods(net) as mods:
            peers = Peers(net, mods)
            return [await peers.contributors(9_373, limit_ms) for limit_ms in (9_372, 9_374)]


async def test_halving_the_deadline_finds_the_slowest_peers_time_where_it_is_taken_as_it_is(
    tmp_path: Path,
) -> None:
    with any_deadline():
        assert await counts(tmp_path) == [PEERS - 1, PEERS]


async def test_between_two_steps_no_deadline_makes_a_difference(tmp_path: Path) -> None:
    assert await counts(tmp_path) == [PEERS - 1, PEERS - 1]


# -- a floor that is lowered on purpose ---------------------------------------------------------------------


async def told_after_lowering(folder: Path, lowering: Deadlines) -> list[float]:
    """Before each question ten rounds, with these deadlines, in which training does not fail."""
    async with Deployed(folder, PEERS) as net:
        with Mods(net) as mods:
            peers, found = Peers(net, mods), []
            await peers.left_s(False, PATIENT)
            for bit in BITS[:3]:
                for _ in range(DECAY):
                    await peers.left_s(False, lowering)
                found.append(await peers.left_s(bit, PATIENT))
            return found


LOWERING = pytest.mark.parametrize("lowering", [within(2_000), PATIENT], ids=["short", "patient"])


@LOWERING
async def test_ten_rounds_lower_a_floor_that_comes_down_at_once(
    tmp_path: Path, lowering: Deadlines
) -> None:
    with patch.object(Floor, "left", at_once):
        left = await told_after_lowering(tmp_path, lowering)
    assert [item == 8.0 for item in left] == BITS[:3]


@LOWERING
async def test_ten_rounds_lower_no_floor(tmp_path: Path, lowering: Deadlines) -> None:
    assert set(await told_after_lowering(tmp_path, lowering)) == {11.314}


# -- restarts ---------------------------------------------------------------------------------------------


async def told_after_restarts(folder: Path) -> list[float]:
    async with Deployed(folder, PEERS) as net:
        with Mods(net) as mods:
            peers, found = Peers(net, mods), []
            await peers.left_s(False, PATIENT)
            for bit in BITS:
                await peers.restart()
                found.append(await peers.left_s(bit, PATIENT))
            return found


async def test_an_agent_that_starts_again_has_no_floor_where_it_is_in_memory_alone(
    tmp_path: Path,
) -> None:
    with patch.object(peer_module, "Floors", lambda path: Floors()):
        left = await told_after_restarts(tmp_path)
    assert [item == 2.0 for item in left] == BITS


async def test_an_agent_that_starts_again_has_the_floor_that_it_had(tmp_path: Path) -> None:
    assert set(await told_after_restarts(tmp_path)) == {11.314}
