"""Real agents that talk gRPC and TLS on loopback, in one process, and an aggregator of their rounds."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, cast

import grpc.aio
import numpy as np
from prometheus_client import CollectorRegistry

from smpc.v1 import peer_pb2_grpc as pb_grpc
from smpcfl.base.ledger_file import open_ledger
from smpcfl.base.metrics import Metrics
from smpcfl.base.state import State
from smpcfl.net import certificates, rpc, wire
from smpcfl.net.callers import Callers
from smpcfl.net.certificates import Members, Role
from smpcfl.peer.agent import PeerAgent, SerialStore
from smpcfl.peer.peer_link import PeerLink
from smpcfl.peer.peer_service import PeerService
from smpcfl.protocol.aggregator_round import AggregatorRound
from smpcfl.protocol.errors import Reason
from smpcfl.protocol.messages import Upload
from smpcfl.protocol.ring import RingVector
from smpcfl.protocol.signing import AGGREGATOR
from smpcfl.protocol.ticket import SEEDED, Deadlines, SignedTicket
from support.enrolled import Deployment
from support.network import POLICY, make_ticket, peer_ids, random_addend

HOST = "127.0.0.1"
QUICK = Deadlines(20_000, 30_000, 39_000, 40_000, 50_000, 60_000)


class Loopback:
    """`n` peers of a deployment in `folder`. Use as a context manager."""

    def __init__(self, folder: Path, n: int, callers: Callers | None = None) -> None:
        self.peers = peer_ids(n)
        deployment = Deployment(folder / "deployment")
        self.identities = {peer: deployment.identity(Role.PEER, peer) for peer in self.peers}
        self.aggregator = deployment.identity(Role.AGGREGATOR, AGGREGATOR)
        self.members = Members(deployment.ca)
        for own in (*self.identities.values(), self.aggregator):
            self.members.add(certificates.der(own.certificate))
        self.ports: dict[str, int] = {}
        self.agents: dict[str, PeerAgent] = {}
        self.services: dict[str, PeerService] = {}
        self._metrics: dict[str, Metrics] = {}
        self._folder = folder
        self._callers = callers
        self._skipped_s = 0.0  # by the clock of all agents
        self._links: list[PeerLink] = []
        self._servers: list[grpc.aio.Server] = []

    async def __aenter__(self) -> Loopback:
        for peer in self.peers:
            await self._start(peer)
        return self

    async def _start(self, peer: str) -> None:
        own, metrics = self.identities[peer], Metrics("seeded", CollectorRegistry())
        directory = SimpleNamespace(
            members=self.members, addresses=lambda peer: [f"{HOST}:{self.ports[peer]}"]
        )
        link = PeerLink(own, cast(Any, directory), metrics)
        folder = self._folder / peer
        folder.mkdir(exist_ok=True)
        agent = PeerAgent(
            own,
            POLICY,
            self.members,
            SerialStore(State(folder).serial),
            open_ledger(State(folder).ledger),
            link.send,
            metrics,
            lambda: time.monotonic() + self._skipped_s,
        )
        service = PeerService(own, agent, self.members, metrics, self._callers)
        server = rpc.new_server()
        pb_grpc.add_PeerServicer_to_server(service, server)
        self.ports[peer] = rpc.bind(server, HOST, 0, own.server_credentials(), "port")
        await server.start()
        self.agents[peer], self.services[peer] = agent, service
        self._metrics[peer] = metrics
        self._links.append(link)
        self._servers.append(server)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for agent in self.agents.values():
            agent.close_round()
        for link in self._links:
            await link.close()
        await asyncio.gather(*(server.stop(0) for server in self._servers))

    def limited(self, peer: str) -> int:
        """Calls to `peer` that were refused because there were too many."""
        name, reason = "smpcfl_rejected_total", Reason.RATE_LIMITED.value
        labels = {"mode": "seeded", "reason": reason}
        return int(self._metrics[peer].registry.get_sample_value(name, labels) or 0)

    def served(self, peer: str) -> int:
        """Calls to `peer` that were looked at."""
        counts = [
            sample.value
            for family in self._metrics[peer].registry.collect()
            for sample in family.samples
            if sample.name == "smpcfl_rpc_duration_seconds_count"
            and not sample.labels["method"].endswith(".out")
        ]
        return int(sum(counts)) - self.limited(peer)

    def channel(self, caller: str, to: str) -> grpc.aio.Channel:
        """One more connection, of whoever has the certificate of `caller`."""
        own = self.aggregator if caller == AGGREGATOR else self.identities[caller]
        return rpc.channel(own, f"{HOST}:{self.ports[to]}", Role.PEER, to)

    def ticket(self, mode: str = SEEDED, **changes: Any) -> SignedTicket:
        """A fresh one by the clock."""
        ticket = replace(
            make_ticket(len(self.peers), mode=mode).ticket,
            **{
                "serial": int(time.time() * 1000),
                "nonce": os.urandom(32),
                "deadlines": QUICK,
                "model_digest": os.urandom(32),
                **changes,
            },
        )
        return SignedTicket(ticket, self.aggregator.signer(ticket.signed_bytes))

    async def round(self, signed: SignedTicket, honest: Iterable[str] | None = None) -> RingVector:
        """A whole round of these peers; the sum minus what it should be, which is all zeros."""
        taking_part = list(honest or self.peers)
        state = AggregatorRound(signed, self.aggregator.signer, self.members)
        for peer in taking_part:
            self.agents[peer].take_ticket(signed)
        rng = np.random.default_rng(1)
        addends = {peer: random_addend(signed.ticket.layout, rng) for peer in taking_part}
        late = asyncio.create_task(self._pass_deadlines(signed, taking_part))
        await asyncio.gather(*(self._upload(state, peer, addends[peer]) for peer in taking_part))
        late.cancel()
        survivors = state.fix_survivors()
        if signed.ticket.mode == SEEDED:
            await asyncio.gather(*(self._unmask(state, peer) for peer in taking_part))
        difference = state.total()
        for peer in survivors:
            difference = difference - addends[peer]
        return difference

    async def _pass_deadlines(self, signed: SignedTicket, taking_part: Sequence[str]) -> None:
        """Of exchange and ready, which the lost are waited for: as soon as those who are there are done."""
        if signed.ticket.mode != SEEDED or len(taking_part) == len(signed.ticket.cohort):
            return
        rounds = [self.agents[peer].seeded(signed.ticket.digest) for peer in taking_part]
        deadlines, others = signed.ticket.deadlines, len(taking_part) - 1
        for deadline_ms, done in (
            (deadlines.exchange, lambda round_: len(round_._of.confirmations)),
            (deadlines.ready, lambda round_: len(round_._counted())),
        ):
            while any(done(round_) < others for round_ in rounds):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            self._skipped_s += deadline_ms / 1000
            for peer in taking_part:
                self.agents[peer].wake()

    async def _upload(self, state: AggregatorRound, peer: str, addend: RingVector) -> None:
        agent, digest = self.agents[peer], state.ticket.digest
        agent.round_of(digest).begin(state.ticket.model_digest, state.ticket.config_digest)
        round_, masks, header = await agent.masks(digest, 0)
        vector = masks.apply(addend).tobytes()
        agent.freeze(digest, vector)
        state.upload(peer, Upload(header, getattr(round_, "announcement", None), vector))

    async def _unmask(self, state: AggregatorRound, peer: str) -> None:
        request = wire.survivors_to_proto(state.survivors(), state.ticket)
        async with self.channel(AGGREGATOR, peer) as channel:
            reply = await pb_grpc.PeerStub(channel).Unmask(request, timeout=60.0)
        state.answer(peer, wire.answer_from_proto(reply.answer))
