"""ClientApps that are killed while they train, and asked again: a heartbeat that nobody acknowledges does it.

If a second message under a ticket gave a zero, the aggregator would choose who contributes.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from unittest.mock import patch

import grpc.aio
import numpy as np
import pytest
from flwr.app import MessageType

from smpcfl.flower.shared.records import content_digest
from smpcfl.net import wire
from smpcfl.protocol import peer_round as peer_module
from smpcfl.protocol.base_round import BaseRound
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.ring import RingVector
from smpcfl.protocol.survivors import fewest
from smpcfl.protocol.ticket import ADDITIVE
from support.apps import App, Called, Fails, Mods, fresh_model, made_up
from support.deployed import LONG_S, Deployed, beginning
from support.forge import survivors
from support.unchecked import check, removed

pytestmark = pytest.mark.sockets

PEERS, VICTIM, INPUTS = 5, 2, 12
EVERYONE = tuple(range(PEERS))
SECOND = check(BaseRound, "begin", Reason.SECOND_TRAINING)


async def ask_again(
    net: Deployed, mods: Mods, victim: App, **changes: Any
) -> dict[str, tuple[Called, App]]:
    """Everybody's ClientApp, where all but the victim's was killed after its begin.

    What a build would run for these is a training that fails, so that a zero leaves.
    """
    model = fresh_model(INPUTS)
    signed = mods.ticket(model, **changes)
    content = content_digest(mods._content(None, model, None), MessageType.TRAIN, {})
    for index in EVERYONE:
        if index != VICTIM:
            request = beginning(signed, content_digest=content)
            await net.peer(index).app.Begin(request, timeout=LONG_S)
    apps: dict[str, App] = {name: Fails(*made_up(INPUTS)) for name in net.cohort}
    apps[net.cohort[VICTIM]] = victim
    message = mods.message(signed, model)
    called = await mods.train(signed, apps, dict.fromkeys(apps, message).__getitem__)
    return {name: (called[name], apps[name]) for name in apps}


async def additive_sum(folder: Path) -> tuple[RingVector, RingVector | None]:
    """The sum, and what the victim added."""
    async with Deployed(folder, PEERS) as net:
        with Mods(net) as mods:
            found = await ask_again(
                net, mods, App(*made_up(INPUTS)), mode=ADDITIVE, min_survivors=PEERS
            )
            return await net.finish(), found[net.cohort[VICTIM]][0].addend


async def test_in_additive_the_sum_of_one_and_zeros_is_that_ones_update(tmp_path: Path) -> None:
    with removed(SECOND):
        total, own = await additive_sum(tmp_path)
    assert own is not None
    assert np.array_equal(total.body, own.body)
    assert own.body.any()


async def test_in_additive_too_there_is_no_sum_without_those_who_were_killed(
    tmp_path: Path,
) -> None:
    with pytest.raises(RemoteError) as error:
        await additive_sum(tmp_path)
    assert error.value.reason is Reason.TOO_FEW_SURVIVORS


async def test_a_second_message_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    async with Deployed(tmp_path, PEERS) as net:
        with Mods(net) as mods:
            found = await ask_again(net, mods, App(*made_up(INPUTS)))
            called, app = found.pop(net.cohort[VICTIM])
            assert (called.refusal, app.runs) == ("", 1)
            for again, killed in found.values():
                assert again.refusal.startswith(Reason.SECOND_TRAINING)
                assert killed.runs == 0
            assert net.rejected(Reason.SECOND_TRAINING) == PEERS - 1
            with pytest.raises(RemoteError) as error:
                await net.finish()
            assert error.value.reason is Reason.TOO_FEW_SURVIVORS


# -- everybody else a zero: the count would be one peer's ----------------------------------------------


async def refusals(folder: Path) -> list[set[str]]:
    """To an unmask where all but the victim failed, and where it did too."""
    found = []
    async with Deployed(folder, PEERS) as net:
        with Mods(net) as mods:
            for victim in (App(*made_up(INPUTS)), Fails(*made_up(INPUTS))):
                with removed(SECOND):
                    await ask_again(net, mods, victim)
                found.append(set(await asyncio.gather(*(unmask_text(net, i) for i in EVERYONE))))
    return found


async def unmask_text(net: Deployed, to: int) -> str:
    stub = net.stub(net.aggregator, to)
    request = wire.survivors_to_proto(survivors(net, EVERYONE), net.ticket)  # type: ignore[arg-type]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Unmask(request, timeout=LONG_S)
    return str(caught.value.details())


async def test_a_refusal_that_counts_tells_whether_one_peer_failed(tmp_path: Path) -> None:
    def counting(ticket: Any, policy: Any, message: Any, failed: int) -> None:
        found = len(message.survivors) - failed
        raise RemoteError(
            Reason.TOO_FEW_CONTRIBUTORS, expected=f">= {fewest(ticket, policy)}", found=found
        )

    with patch.object(peer_module, "check_contributors", counting):
        one, other = await refusals(tmp_path)
    assert one != other


async def test_a_refusal_for_too_few_contributors_says_no_number(tmp_path: Path) -> None:
    one, other = await refusals(tmp_path)
    assert one == other
    assert one == {"too_few_contributors: at least 4 are needed"}
