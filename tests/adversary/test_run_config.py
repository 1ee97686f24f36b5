"""What the ClientApp sees and nobody digested: other values for each peer, all digests right."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message, MetricRecord

from smpcfl.flower.client import mod
from smpcfl.peer.agent_service import AgentService
from smpcfl.protocol.errors import Reason
from support.apps import RUN, App, Called, Mods, fresh_model, only_configuration
from support.deployed import Deployed
from support.deployed_peer import APPS

pytestmark = pytest.mark.sockets

PEERS, VICTIM = 5, 1
INPUTS = 12
CONFIG = {"config": ConfigRecord({"lr": 0.5})}


def epochs_of(message: Message, context: Context) -> int:
    """Like a user's app that takes its settings from anywhere: 1, unless something says 0."""
    content = message.content
    said = [
        context.run_config.get("local-epochs", 1),
        *(record["local-epochs"] for record in content.metric_records.values()),
        *(0 for name in content.config_records if name in ("warm-up", "another")),
        *(0 for name in content.metric_records if name == "another"),
        0 if message.metadata.message_type == "train.another" else 1,
    ]
    return int(min(said))  # type: ignore[type-var, arg-type]


def nothing(message: Message, context: Context) -> int:
    """Of the app of Flower's run 2."""
    return 0


@dataclass
class Lie:
    """What all but the victim are given; what the ticket digests is what the victim is given."""

    ticket: dict[str, Any] = field(default_factory=dict)
    given: dict[str, Any] = field(default_factory=dict)  # of the message
    run_config: dict[str, Any] = field(default_factory=dict)
    run: int = RUN


def metrics(epochs: int) -> dict[str, Any]:
    return {**CONFIG, "metrics": MetricRecord({"local-epochs": epochs})}


LIES = {
    "run config": Lie({"run_config": {"local-epochs": 1}}, {}, {"local-epochs": 0}),
    "metrics": Lie({"beside": metrics(1)}, {"beside": metrics(0)}),
    "the name of a record": Lie(
        {"beside": metrics(1)}, {"beside": {**CONFIG, "another": MetricRecord({"local-epochs": 1})}}
    ),
    "one more record": Lie(
        {"beside": CONFIG}, {"beside": {**CONFIG, "warm-up": MetricRecord({"local-epochs": 0})}}
    ),
    "the message's type": Lie({}, {"message_type": "train.another"}),
    "another app": Lie(run=2),
}


@contextmanager
def undigested() -> Iterator[None]:
    """As it was: configuration records alone, and the app is the aggregator's word."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(mod, "content_digest", only_configuration))
        stack.enter_context(patch("support.apps.content_digest", only_configuration))
        stack.enter_context(patch.object(AgentService, "_app_of", lambda *_: APPS[RUN]))
        yield


async def trained(
    folder: Path, lie: Lie
) -> tuple[Deployed, dict[str, Called], dict[str, App], np.ndarray[Any, Any] | None]:
    """The sum's body, if all five survive."""
    async with Deployed(folder, PEERS) as net:
        with Mods(net) as mods:
            rng = np.random.default_rng(3)
            model = fresh_model(INPUTS, seed=4)
            signed = mods.ticket(model, **lie.ticket)
            honest = {key: value for key, value in lie.ticket.items() if key != "run_config"}
            apps, calls = {}, {}
            for name in net.cohort:
                x = rng.normal(size=(20, INPUTS)).astype(np.float32)
                fooled = name != net.cohort[VICTIM]
                run = lie.run if fooled else RUN
                apps[name] = App(
                    x, rng.integers(0, 10, 20), epochs=epochs_of if run == RUN else nothing
                )
                given = {**honest, **lie.given} if fooled else honest
                calls[name] = mods.ask(
                    name,
                    apps[name],
                    mods.message(signed, model, **given),
                    run=run,
                    run_config=lie.run_config if fooled else lie.ticket.get("run_config", {}),
                )
            answers = await asyncio.gather(*calls.values())
            found = mods.take(signed, dict(zip(calls, answers, strict=True)))
            if len(net.uploads) < PEERS:
                return net, found, apps, None
            total = await net.finish()
            assert len(net.survivors) == PEERS
            return net, found, apps, total.body


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
async def test_what_nobody_digests_makes_the_sum_one_peers_update(tmp_path: Path, lie: Lie) -> None:
    with undigested():
        net, called, _, total = await trained(tmp_path, lie)
    assert not any(item.refusal for item in called.values())
    assert total is not None
    own = net.addends[net.cohort[VICTIM]]
    assert own.body.any()
    assert (total == own.body).all()


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
async def test_what_differs_from_the_ticket_is_refused_before_anything_runs(
    tmp_path: Path, lie: Lie
) -> None:
    net, called, apps, total = await trained(tmp_path, lie)
    victim = net.cohort[VICTIM]
    assert total is None
    refusals = {name: item.refusal.split(":")[0] for name, item in called.items()}
    others = [name for name in net.cohort if name != victim]
    assert refusals == {victim: "", **dict.fromkeys(others, Reason.CONFIG_MISMATCH)}
    assert {name: app.runs for name, app in apps.items()} == {victim: 1, **dict.fromkeys(others, 0)}
