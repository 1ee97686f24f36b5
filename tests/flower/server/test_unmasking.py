"""Whom the aggregator asks to unmask, how often, and what it leaves out, without a network."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import grpc
import grpc.aio
import pytest

from smpc.v1 import local_pb2, peer_pb2
from smpcfl.flower.server import unmasking
from smpcfl.flower.server.peer_calls import PeerCalls
from smpcfl.flower.server.unmasking import Unmasking
from smpcfl.net import rpc, wire
from smpcfl.net.dial import NoAddress
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.messages import Answer
from smpcfl.protocol.ticket import Deadlines
from support.network import Network, make_ticket

SPENT = 70
Outcome = Callable[[], Awaitable[peer_pb2.UnmaskReply]]


@dataclass
class Asked(Network):
    """Its peers' answers wait to be asked for."""

    answers: dict[str, Answer] = field(default_factory=dict)

    def take_answer(self, peer: str, answer: Answer) -> None:
        self.answers[peer] = answer


class Peers:
    """In place of channels and stubs: a channel is a peer's id.

    `instead` is what happens at the next calls to a peer, one by one, where it is not the answer.
    """

    def __init__(self, network: Asked) -> None:
        self.network = network
        self.calls: list[str] = []
        self.nowhere: set[str] = set()
        self.instead: dict[str, list[Outcome]] = {}
        self.refused: list[RemoteError] = []

    def to(self, peer: str) -> str:
        if peer in self.nowhere:
            raise NoAddress(peer)
        return peer

    def failed(self, peer: str, channel: object) -> bool:
        return True  # there is another address

    async def unmask(self, peer: str) -> peer_pb2.UnmaskReply:
        self.calls.append(peer)
        if self.instead.get(peer):
            return await self.instead[peer].pop(0)()
        answer = wire.answer_to_proto(self.network.answers[peer])
        return peer_pb2.UnmaskReply(answer=answer, p2p_bytes=SPENT)

    def stub(self, peer: str) -> Any:
        return SimpleNamespace(Unmask=lambda request, timeout: self.unmask(peer))


def failing(reason: Reason | None = None) -> Outcome:
    """The call fails, or is refused with a reason."""
    trailing = [(rpc._REASON, reason.value)] if reason else []

    async def outcome() -> peer_pb2.UnmaskReply:
        metadata = grpc.aio.Metadata(*trailing)
        raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), metadata)

    return outcome


def never(cancelled: asyncio.Event) -> Outcome:
    async def outcome() -> peer_pb2.UnmaskReply:
        try:
            return await asyncio.get_running_loop().create_future()
        finally:
            cancelled.set()

    return outcome


MakePeers = Callable[..., Peers]


@pytest.fixture
def peers_of(monkeypatch: pytest.MonkeyPatch) -> MakePeers:
    """After a round of eight up to its answers; one more than the threshold is needed, six."""

    def make(**changes: Any) -> Peers:
        network = Asked(make_ticket(8, **changes))
        network.until("upload")
        network.survivors = network.aggregator.fix_survivors()
        network.answer()
        peers = Peers(network)
        monkeypatch.setattr(unmasking.pb_grpc, "PeerStub", peers.stub)
        return peers

    return make


async def asked(peers: Peers, calls: PeerCalls | None = None) -> Unmasking:
    calls = calls or PeerCalls(lambda event: None)
    found = Unmasking(cast(Any, None), "", Path(), peers.refused.append, calls)
    found._channels = cast(Any, peers)
    await asyncio.wait_for(found.run(peers.network.aggregator), 60)
    return found


def is_complete(peers: Peers) -> bool:
    network = peers.network
    return network.aggregator.total().tobytes() == network.expected().tobytes()


async def test_every_peer_is_asked_and_the_sum_is_the_survivors(peers_of: MakePeers) -> None:
    peers = peers_of()
    found = await asked(peers)
    cohort = peers.network.ticket.cohort
    assert sorted(peers.calls) == list(cohort)
    assert found.p2p_bytes == dict.fromkeys(cohort, SPENT)
    request = wire.survivors_to_proto(peers.network.aggregator.survivors(), peers.network.ticket)
    assert found.bytes_out == 8 * rpc.size(request)
    assert found.bytes_in > 8 * SPENT
    assert is_complete(peers)


async def test_who_refuses_or_has_no_address_is_asked_no_more(peers_of: MakePeers) -> None:
    peers = peers_of()
    first, second, *rest = peers.network.ticket.cohort
    peers.nowhere.add(first)
    peers.instead[second] = [failing(Reason.CONFLICTING_SURVIVORS)]
    found = await asked(peers)
    assert peers.calls.count(second) == 1
    assert sorted(found.p2p_bytes) == rest
    assert is_complete(peers)


async def test_who_does_not_answer_is_asked_again_elsewhere(peers_of: MakePeers) -> None:
    peers = peers_of()
    first = peers.network.ticket.cohort[0]
    peers.instead[first] = [failing(), failing()]
    await asked(peers)
    assert peers.calls.count(first) == 3
    assert is_complete(peers)


async def test_how_long_each_call_took_and_how_it_ended_is_told(peers_of: MakePeers) -> None:
    peers = peers_of()
    first, second, third, *others = peers.network.ticket.cohort
    peers.instead[first] = [failing()]
    peers.instead[second] = [failing(Reason.CONFLICTING_SURVIVORS)]
    peers.instead[third] = [never(asyncio.Event())]
    events: list[local_pb2.RunEvent] = []
    calls = PeerCalls(events.append)
    await asked(peers, calls)
    calls.close()
    (event,) = events
    assert {call.method for call in event.calls.calls} == {"Unmask"}
    outcomes = Counter(call.outcome for call in event.calls.calls)
    answered = len(others) + 1
    assert outcomes == {"ok": answered, "refused": 1, "error": 1}, "and no end of the third's"
    assert all(0 < call.seconds < 60 for call in event.calls.calls)


async def test_a_wrong_answer_is_reported_and_left_out(peers_of: MakePeers) -> None:
    peers = peers_of()
    first, second, *_ = peers.network.ticket.cohort
    peers.network.answers[first] = peers.network.answers[second]
    await asked(peers)
    assert [(error.reason, error.peer) for error in peers.refused] == [(Reason.MALFORMED, first)]
    assert is_complete(peers)


async def test_nobody_is_waited_for_when_there_are_enough(peers_of: MakePeers) -> None:
    peers = peers_of()
    first = peers.network.ticket.cohort[0]
    cancelled = asyncio.Event()
    peers.instead[first] = [never(cancelled)]
    await asked(peers)
    assert cancelled.is_set()
    assert is_complete(peers)


async def test_it_ends_with_the_deadline_whoever_is_still_asked(peers_of: MakePeers) -> None:
    peers = peers_of(deadlines=Deadlines(20_000, 40_000, 100_000, 120_000, 120_001, 120_002))
    for peer in peers.network.ticket.cohort[:4]:
        peers.instead[peer] = [never(asyncio.Event())]
    await asked(peers)
    with pytest.raises(RemoteError) as error:
        peers.network.aggregator.total()
    assert error.value.reason is Reason.TOO_FEW_ANSWERS
