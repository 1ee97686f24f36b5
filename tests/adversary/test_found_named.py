"""What an aggregator learns of one named peer's training: by deadlines, restarts, and a refusal's text.

Each of these attacks works as the code is: where it is mended, turn the assertion round.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np
import pytest
from flwr.app import Message, MessageType

from smpcfl.flower.shared.records import content_digest, upload_of
from smpcfl.net import wire
from smpcfl.protocol import trailer
from smpcfl.protocol.ticket import ADDITIVE, Deadlines
from support.apps import PATIENT, App, Arrays, Mods, fresh_model
from support.deployed import LONG_S, Deployed, beginning
from support.forge import survivors

PEERS, VICTIM, INPUTS = 5, 2, 12
EVERYONE = tuple(range(PEERS))


def data(seed: int = 1) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(40, INPUTS)).astype(np.float32), rng.integers(0, 10, 40)


class Fails(App):
    def reply(self, message: Message, model: Arrays, loss: float, correct: int) -> Message:
        raise ValueError


def within(training_ms: int) -> Deadlines:
    """With this time to train; the rest is patient."""
    train = PATIENT.ready + training_ms
    return replace(PATIENT, train=train)


async def one(net: Deployed, mods: Mods, app: App, deadlines: Deadlines) -> float:
    """When the victim's upload leaves, in seconds after its begin."""
    model = fresh_model(INPUTS)
    signed = mods.ticket(model, deadlines=deadlines)
    name = net.cohort[VICTIM]
    for other, peer in net.peers.items():
        if other != name:
            peer.agent.take_ticket(signed)  # as if offered: so many within seconds would be a flood
    called = await mods.ask(name, app, mods.message(signed, model))
    upload_of(called.reply)
    return called.left_s


async def read(
    folder: Path, bits: list[bool], deadlines: Deadlines, *, restart: bool = False
) -> list[float]:
    """`bits`: on which tickets the victim's training fails at once; else it takes ten seconds."""
    good, bad = App(*data(), seconds=10.0), Fails(*data(), seconds=0.1)
    async with Deployed(folder, PEERS) as net:
        with Mods(net) as mods:
            found = []
            for bit in bits:
                if restart:
                    await net.restart(VICTIM)
                    for peer in net.peers.values():
                        peer.directory.by_registry = {
                            name: other.address for name, other in net.peers.items()
                        }
                found.append(await one(net, mods, bad if bit else good, deadlines))
            return found


_RNG = random.Random(7)
BITS = [_RNG.random() < 0.5 for _ in range(30)]


async def test_one_decay_and_then_the_floor_stays_down(tmp_path: Path) -> None:
    """An old peer: ten rounds with the usual deadlines, then a time to train below the floor that it had."""
    good, bad = App(*data(), seconds=10.0), Fails(*data(), seconds=0.1)
    async with Deployed(tmp_path, PEERS) as net:
        with Mods(net) as mods:
            usual = [await one(net, mods, good, PATIENT) for _ in range(11)]
            assert set(usual) == {11.314}
            assert net.peer(VICTIM).agent.floor.ms == 8000
            left = [await one(net, mods, bad if bit else good, within(10_500)) for bit in BITS]
    assert [item < 10.5 for item in left] == BITS
    assert max(left) == 10.5


async def test_a_deadline_between_two_steps_keeps_the_floor_down(tmp_path: Path) -> None:
    left = await read(tmp_path, BITS, within(10_500))
    assert [item == 2.0 for item in left] == BITS
    assert set(left) == {2.0, 10.5}


async def test_an_agent_that_starts_again_has_no_floor(tmp_path: Path) -> None:
    left = await read(tmp_path, BITS[:10], PATIENT, restart=True)
    assert [item == 2.0 for item in left] == BITS[:10]


# -- how long the slowest peer trains, to a millisecond -----------------------------------------------------


async def test_the_slowest_peers_time_is_found_by_halving_the_deadline(tmp_path: Path) -> None:
    true_ms = 9_373
    async with Deployed(tmp_path, PEERS) as net:
        with Mods(net) as mods:
            low, high, tickets = (
                8_000,
                11_314,
                0,
            )  # the step in which its uploads were seen to leave
            while high - low > 1:
                middle = (low + high) // 2
                model = fresh_model(INPUTS)
                signed = mods.ticket(model, deadlines=within(middle), clip=4.0)
                apps = {name: App(*data(), seconds=3.0) for name in net.cohort}
                slow = apps[net.cohort[VICTIM]]
                slow.seconds, slow.endless = true_ms / 1000, true_ms >= middle
                message = mods.message(signed, model)
                called = await mods.train(signed, apps, dict.fromkeys(apps, message).__getitem__)
                slow.over.set()
                late = [name for name, item in called.items() if item.left_s == middle / 1000]
                assert late == [net.cohort[VICTIM]]  # so a failure is its, and nobody else's
                for name in net.cohort:
                    net.addends.setdefault(name, net.ticket.layout.zeros())
                total = await net.finish()
                counted = trailer.decode(total.wide[-trailer.LENGTH :], PEERS).contributors
                low, high = (middle, high) if counted < PEERS else (low, middle)
                tickets += 1
            assert tickets == 12
            assert low <= true_ms <= high
            assert net.peer(VICTIM).agent.floor.ms == 0


# -- everybody else a zero: the count is one peer's ---------------------------------------------------------


async def unmask_text(net: Deployed, to: int) -> str:
    stub = net.stub(net.aggregator, to)
    request = wire.survivors_to_proto(survivors(net, EVERYONE), net.ticket)  # type: ignore[arg-type]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Unmask(request, timeout=LONG_S)
    return str(caught.value.details())


async def test_where_the_others_were_killed_the_count_of_failures_names_the_victim(
    tmp_path: Path,
) -> None:
    """A heartbeat that is not acknowledged ends a SuperNode and its ClientApp, here after `begin`."""
    bits = BITS[:12]
    found = []
    async with Deployed(tmp_path, PEERS) as net:
        with Mods(net) as mods:
            for bit in bits:
                model = fresh_model(INPUTS)
                signed = mods.ticket(model)
                content = content_digest(mods._content(None, model, None), MessageType.TRAIN, {})
                apps: dict[str, App] = {}
                for index, name in enumerate(net.cohort):
                    apps[name] = App(*data(), seconds=1.0)
                    if index != VICTIM:  # the ClientApp that is killed while it trains
                        request = beginning(signed, content_digest=content)
                        assert (await net.peer(index).app.Begin(request, timeout=LONG_S)).train
                if bit:
                    apps[net.cohort[VICTIM]] = Fails(*data(), seconds=1.0)
                message = mods.message(signed, model)
                called = await mods.train(signed, apps, dict.fromkeys(apps, message).__getitem__)
                assert len({item.left_s for item in called.values()}) == 1
                assert [app.runs for app in apps.values()] == [
                    int(index == VICTIM) for index in EVERYONE
                ]
                texts = await asyncio.gather(*(unmask_text(net, i) for i in EVERYONE))
                (text,) = set(texts)
                found.append(text.endswith("found 0"))
    assert found == bits


async def test_in_additive_the_sum_of_one_and_zeros_is_that_ones_update(tmp_path: Path) -> None:
    async with Deployed(tmp_path, PEERS) as net:
        with Mods(net) as mods:
            model = fresh_model(INPUTS)
            signed = mods.ticket(model, mode=ADDITIVE, min_survivors=PEERS)
            content = content_digest(mods._content(None, model, None), MessageType.TRAIN, {})
            for index in EVERYONE:
                if index != VICTIM:
                    request = beginning(signed, content_digest=content)
                    assert (await net.peer(index).app.Begin(request, timeout=LONG_S)).train
            apps = {name: App(*data(index)) for index, name in enumerate(net.cohort)}
            called = await mods.train(signed, apps, lambda name: mods.message(signed, model))
            total, own = await net.finish(), called[net.cohort[VICTIM]].addend
            assert own is not None
            assert np.array_equal(total.body, own.body)
            assert own.body.any()
