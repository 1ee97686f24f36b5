"""What one peer's own metrics tell whoever scrapes it, by the moments at which they move: nothing of how long
it trains, or whether that fails. From begin to release they tell of what other peers do, and of nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from prometheus_client import Metric

from smpc.v1 import peer_pb2
from smpcfl.flower.client import mod
from smpcfl.flower.client.agent_client import AgentClient
from smpcfl.flower.shared.records import upload_of
from support.apps import App, Fails, Mods, fresh_model, made_up
from support.deployed import Deployed

pytestmark = pytest.mark.sockets

PEERS, VICTIM, INPUTS = 5, 2, 12
TALK = set(peer_pb2.DESCRIPTOR.services_by_name["Peer"].methods_by_name)

Sample = tuple[str, tuple[tuple[str, str], ...]]


def own(metrics: list[Metric]) -> dict[Sample, float]:
    """All samples but those of what is said between peers, which goes on while they train."""
    found = {}
    for sample in (sample for metric in metrics for sample in metric.samples):
        labels = sample.labels
        said = labels.get("channel") == "p2p" or labels.get("connection") == "peer"
        said = said or labels.get("method", "").removesuffix(".out") in TALK
        if not said and labels.get("phase") not in ("exchange", "ready"):
            found[sample.name, tuple(sorted(labels.items()))] = sample.value
    return found


class Scraped:
    """The victim's metrics: when its training began and ended, at the release, and at the end."""

    def __init__(self, net: Deployed) -> None:
        self._registry = net.peer(VICTIM).metrics.registry
        self.seen: dict[str, dict[Sample, float]] = {}

    def at(self, moment: str) -> None:
        self.seen[moment] = own(list(self._registry.collect()))

    def moved(self, one: str, other: str) -> set[str]:
        """The metrics that are not the same at these two moments."""
        return {name for (name, _), _ in self.seen[one].items() ^ self.seen[other].items()}


@contextmanager
def watched(scraped: Scraped, after_training: Callable[[AgentClient], None]) -> Iterator[None]:
    """`after_training`: what a mod does at that moment, beside what ours does."""
    masks, worker = AgentClient.masks, mod.in_worker
    agents: list[AgentClient] = []
    begin = AgentClient.begin

    def begins(self: AgentClient, *arguments: Any) -> Any:
        agents[:] = [self]
        return begin(self, *arguments)

    def works(*arguments: Any) -> Any:
        scraped.at("begun")
        found = worker(*arguments)
        after_training(agents[0])
        scraped.at("trained")
        return found

    def asks(self: AgentClient, *arguments: Any) -> Any:
        scraped.at("released")
        return masks(self, *arguments)

    with (
        patch.object(AgentClient, "begin", begins),
        patch.object(AgentClient, "masks", asks),
        patch.object(mod, "in_worker", works),
    ):
        yield


async def train(
    folder: Path, app: App, after_training: Callable[[AgentClient], None] = lambda agent: None
) -> Scraped:
    async with Deployed(folder, PEERS) as net:
        with Mods(net) as mods:
            scraped, model = Scraped(net), fresh_model(INPUTS)
            signed = mods.ticket(model)
            name = net.cohort[VICTIM]
            for other, peer in net.peers.items():
                if other != name:
                    peer.agent.take_ticket(signed)
            with watched(scraped, after_training):
                called = await mods.ask(name, app, mods.message(signed, model))
            upload_of(called.reply)
            scraped.at("ended")
            return scraped


@pytest.mark.parametrize("kind", [App, Fails])
@pytest.mark.parametrize("seconds", [0.1, 10.0, 10_000.0])
async def test_no_counter_moves_between_begin_and_release(
    tmp_path: Path, kind: type[App], seconds: float
) -> None:
    scraped = await train(tmp_path, kind(*made_up(INPUTS), seconds=seconds))
    assert not scraped.moved("begun", "trained")
    assert not scraped.moved("trained", "released")
    after = scraped.moved("released", "ended")
    assert after == {"smpcfl_bytes_total"}, (
        "the check sees it, and the calls of the app are not timed"
    )


async def test_a_mod_that_reports_bytes_when_training_ends_is_seen(tmp_path: Path) -> None:
    """As any counter would be that moves before the release."""

    def tells(agent: AgentClient) -> None:
        agent.report(bytes_in=1, bytes_out=1)

    scraped = await train(tmp_path, App(*made_up(INPUTS)), tells)
    assert scraped.moved("begun", "trained") == {"smpcfl_bytes_total"}
