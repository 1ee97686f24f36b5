"""Real agents and services of one round in one process, and calls to them without a network."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import grpc
import numpy as np
from prometheus_client import CollectorRegistry

from smpc.v1 import local_pb2, messages_pb2, peer_pb2
from smpcfl.base.ledger_file import open_ledger
from smpcfl.base.metrics import Metrics
from smpcfl.base.state import State
from smpcfl.net import wire
from smpcfl.net.callers import Allowance, Callers
from smpcfl.net.certificates import Role, tls_name
from smpcfl.net.kinds import KINDS
from smpcfl.peer.agent import CallFailed, PeerAgent, Round
from smpcfl.peer.agent_service import AgentService
from smpcfl.peer.peer_service import PeerService
from smpcfl.peer.serial_store import SerialStore
from smpcfl.protocol.aggregator_round import AggregatorRound
from smpcfl.protocol.digests import config_digest
from smpcfl.protocol.errors import Reason
from smpcfl.protocol.messages import Call, PeerMessage, Upload
from smpcfl.protocol.ring import RingVector
from smpcfl.protocol.signing import AGGREGATOR
from smpcfl.protocol.ticket import SEEDED, Deadlines
from support.network import (
    POLICY,
    keyring_of,
    make_ticket,
    peer_ids,
    random_addend,
    sign,
    signer_of,
)

UNLIMITED = Allowance(in_flight=10**9, burst=10**9, per_second=10**9, pause_s=0.0)
APP = bytes([7]) * 32
OUTSIDER = tls_name(Role.PEER, "peer-zz")
REQUESTS: dict[str, Any] = {
    **{row.method: row.request.proto for row in KINDS.values()},
    "Identify": peer_pb2.Empty,
    "Traffic": peer_pb2.Empty,
    "Unmask": messages_pb2.Survivors,
}
LOCAL: dict[str, Any] = {
    "Identity": local_pb2.IdentityRequest,
    "Begin": local_pb2.BeginRequest,
    "Frozen": local_pb2.FrozenRequest,
    "Masks": local_pb2.MasksRequest,
    "Freeze": local_pb2.FreezeChunk,
    "Report": local_pb2.ReportRequest,
}
STREAMED = ("Freeze", *(row.method for row in KINDS.values() if row.streams))  # their requests


class Aborted(Exception):
    """What a caller would see of a refusal."""

    def __init__(self, code: grpc.StatusCode, details: str, reason: str) -> None:
        super().__init__(code, details)
        self.code = code
        self.details = details
        self.reason = reason

    @property
    def declared(self) -> bool:
        """Whether it is a refusal with one of our reasons, or one of our errors."""
        if self.code is grpc.StatusCode.FAILED_PRECONDITION:
            return self.reason in list(Reason)
        return self.code is grpc.StatusCode.INVALID_ARGUMENT


class Context:
    """Of a call by whoever has a certificate with these DNS names."""

    def __init__(self, *names: str, pem: bytes = b"") -> None:
        self._auth = {
            "x509_subject_alternative_name": [name.encode() for name in names],
            "x509_pem_cert": [pem],
        }
        self._reason = ""

    def auth_context(self) -> dict[str, list[bytes]]:
        return self._auth

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    def set_trailing_metadata(self, metadata: tuple[tuple[str, str], ...]) -> None:
        self._reason = metadata[0][1]

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        raise Aborted(code, details, self._reason)


def peer_context(peer: str) -> Context:
    return Context(tls_name(Role.PEER, peer))


def aggregator_context() -> Context:
    return Context(tls_name(Role.AGGREGATOR, AGGREGATOR))


async def streamed(*chunks: Any) -> AsyncIterator[Any]:
    for chunk in chunks:
        yield chunk


class Live:
    """A cohort of agents. Calls of a kind reach nobody before `let` is called for it."""

    def __init__(self, folder: Path, n: int, mode: str = SEEDED) -> None:
        self.peers = peer_ids(n)
        ticket = replace(
            make_ticket(n, mode=mode).ticket,
            serial=int(time.time() * 1000),
            nonce=os.urandom(32),
            model_digest=bytes([1])
            * 32,  # not that of the recorded round, whose ticket is good as well
            config_digest=config_digest(bytes(32), APP),
            deadlines=Deadlines(600_000, 700_000, 750_000, 800_000, 900_000, 1_000_000),
        )
        self.signed = sign(ticket)
        self.ticket = ticket
        self.seen: dict[str, list[bytes]] = {"Offer": [_raw(wire.ticket_to_proto(self.signed))]}
        self._let: dict[str, asyncio.Event] = {kind: asyncio.Event() for kind in REQUESTS}
        self.agents: dict[str, PeerAgent] = {}
        self.services: dict[str, PeerService] = {}
        self.local: dict[str, AgentService] = {}
        self.addends: dict[str, RingVector] = {}
        self.aggregator = AggregatorRound(
            self.signed, signer_of(AGGREGATOR), keyring_of(self.peers)
        )
        rng = np.random.default_rng(1)
        for peer in self.peers:
            self._add(folder, peer)
            self.addends[peer] = random_addend(ticket.layout, rng)

    def _add(self, folder: Path, peer: str) -> None:
        metrics = Metrics("seeded", CollectorRegistry())
        (folder / peer).mkdir()

        async def send(call: Call, count: Callable[[int], None]) -> PeerMessage | None:
            return await self._send(peer, call)

        shown = SimpleNamespace(public_bytes=lambda encoding: b"der")
        agent = PeerAgent(
            cast(Any, SimpleNamespace(name=peer, signer=signer_of(peer), certificate=shown)),
            POLICY,
            keyring_of(self.peers),
            SerialStore(State(folder / peer).serial),
            open_ledger(State(folder / peer).ledger),
            send,
            metrics,
        )
        nobody = SimpleNamespace(revoked=frozenset[str]())
        own = SimpleNamespace(certificate=shown)
        self.agents[peer] = agent
        self.services[peer] = PeerService(
            cast(Any, own), agent, cast(Any, nobody), metrics, Callers(UNLIMITED)
        )
        self.local[peer] = AgentService(agent, metrics, {1: APP}.get)

    async def _send(self, sender: str, call: Call) -> PeerMessage | None:
        row = KINDS[type(call.message)]
        requests = list(row.requests(call.message))
        self._keep(row.method, requests[0])
        await self._let[row.method].wait()
        context = peer_context(sender)
        handle = getattr(self.services[call.to], row.method)
        try:
            reply = await handle(streamed(*requests) if row.streams else requests[0], context)
        except Aborted as error:
            raise CallFailed(error.details, Reason(error.reason)) from error
        return cast(PeerMessage | None, row.reply.read(reply, self.ticket.digest))

    def _keep(self, method: str, message: Any) -> None:
        self.seen.setdefault(method, []).append(_raw(message))

    def let(self, *kinds: str) -> None:
        for kind in kinds:
            self._let[kind].set()

    def beginning(self) -> local_pb2.BeginRequest:
        """As a ClientApp of the app `APP` asks."""
        return local_pb2.BeginRequest(
            ticket=wire.ticket_to_proto(self.signed),
            model_digest=self.ticket.model_digest,
            content_digest=bytes(32),
            flower_run=1,
        )

    def start(self) -> None:
        for peer in self.peers:
            self.agents[peer].take_ticket(self.signed)

    def rounds(self) -> list[Round]:
        return [self.agents[peer].round_of(self.ticket.digest) for peer in self.peers]

    async def until(self, done: Callable[[Round], bool]) -> None:
        """Until all of the rounds are so far."""
        async with asyncio.timeout(30):
            while not all(done(round_) for round_ in self.rounds()):
                changes = [agent._changed.wait() for agent in self.agents.values()]
                tasks = [asyncio.ensure_future(change) for change in changes]
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in tasks:
                    task.cancel()

    async def upload(self) -> None:
        for peer in self.peers:
            agent, ticket = self.agents[peer], self.ticket
            agent.round_of(ticket.digest).begin(ticket.model_digest, ticket.config_digest)
            round_, masks, header = await agent.masks(ticket.digest, 0)
            vector = masks.apply(self.addends[peer].copy()).tobytes()
            agent.freeze(self.ticket.digest, vector)
            announcement = getattr(round_, "announcement", None)
            self.aggregator.upload(peer, Upload(header, announcement, vector))
        self.aggregator.fix_survivors()

    def unmask(self) -> list[asyncio.Task[None]]:
        return [asyncio.create_task(self._unmask(peer)) for peer in self.peers]

    async def _unmask(self, peer: str) -> None:
        request = wire.survivors_to_proto(self.aggregator.survivors(), self.ticket)
        self._keep("Unmask", request)
        reply = await self.services[peer].Unmask(request, aggregator_context())
        self.aggregator.answer(peer, wire.answer_from_proto(reply.answer))

    def assert_exact(self) -> None:
        expected = self.ticket.layout.zeros()
        for addend in self.addends.values():
            expected += addend
        assert self.aggregator.total() == expected

    def close(self) -> None:
        for agent in self.agents.values():
            agent.close_round()


def _raw(message: Any) -> bytes:
    return cast(bytes, message.SerializeToString())
