"""The agent between core and network: no call is lost, whatever the network does with it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from smpcfl.base.metrics import Metrics
from smpcfl.base.state import State
from smpcfl.peer.agent import CallFailed, PeerAgent
from smpcfl.peer.serial_store import SerialStore
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.ledger import Ledger
from smpcfl.protocol.messages import Call, PeerMessage
from smpcfl.protocol.ticket import SignedTicket
from support.network import POLICY, keyring_of, make_ticket, peer_ids, sign, signer_of

PEERS = peer_ids(3)


class Network:
    """Fails the first call to each peer in one way, and remembers what is called."""

    def __init__(self, failure: BaseException) -> None:
        self.failure = failure
        self.made: dict[str, int] = dict.fromkeys(PEERS, 0)
        self.again = asyncio.Event()

    async def send(self, call: Call, count: Callable[[int], None]) -> PeerMessage | None:
        count(100)
        self.made[call.to] += 1
        if self.made[call.to] > 1:
            self.again.set()
        raise self.failure


def ticket() -> SignedTicket:
    """Fresh by the clock, so that the agent admits it."""
    return sign(replace(make_ticket(3).ticket, serial=int(time.time() * 1000)))


@pytest.fixture
async def agent_of(tmp_path: Path) -> AsyncIterator[Callable[[Network], PeerAgent]]:
    agents = []

    def make(network: Network) -> PeerAgent:
        own = SimpleNamespace(name=PEERS[0], signer=signer_of(PEERS[0]))
        agent = PeerAgent(
            cast(Any, own),
            POLICY,
            keyring_of(PEERS),
            SerialStore(State(tmp_path).serial),
            Ledger(),
            network.send,
            Metrics("seeded", CollectorRegistry()),
        )
        agents.append(agent)
        return agent

    yield make
    for agent in agents:
        agent.close_round()


@pytest.mark.parametrize(
    "failure",
    [
        CallFailed("unreachable"),
        asyncio.CancelledError(),  # gRPC, when a channel is closed under a call
        RuntimeError("channel is closed"),
        CallFailed("malformed reply", Reason.MALFORMED),
    ],
    ids=["failed", "cancelled", "unexpected", "refused"],
)
async def test_a_call_that_came_to_nothing_is_made_again(
    failure: BaseException, agent_of: Callable[[Network], PeerAgent]
) -> None:
    network = Network(failure)
    agent = agent_of(network)
    agent.take_ticket(ticket())
    await asyncio.wait_for(network.again.wait(), 5)


async def test_what_a_failed_call_sent_counts_as_sent(
    agent_of: Callable[[Network], PeerAgent],
) -> None:
    network = Network(CallFailed("unreachable"))
    agent = agent_of(network)
    agent.take_ticket(ticket())
    await asyncio.wait_for(network.again.wait(), 5)
    assert agent.p2p_bytes == 100 * sum(network.made.values())


async def test_a_closed_round_is_gone_and_calls_nobody(
    agent_of: Callable[[Network], PeerAgent],
) -> None:
    network = Network(CallFailed("unreachable"))
    agent = agent_of(network)
    opened = agent.take_ticket(ticket())
    agent.close_round()
    await asyncio.sleep(0)
    assert sum(network.made.values()) == 0
    with pytest.raises(RemoteError):
        agent.round_of(opened.ticket.digest)
