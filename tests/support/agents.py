"""A cohort of real agents behind real servers, with certificates of one CA, all in this process.

What it knows of a round has the names of `Network`, so that `support.forge` and `support.attacker` work
on both.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import grpc
import grpc.aio
import numpy as np
from prometheus_client import CollectorRegistry

from smpc.v1 import peer_pb2_grpc as pb_grpc
from smpcfl import rpc, wire
from smpcfl.directory import Directory
from smpcfl.identity import Identity, Role, der
from smpcfl.metrics import Metrics
from smpcfl.peer import agent as agent_module
from smpcfl.peer.agent import PeerAgent, SerialStore
from smpcfl.peer.link import PeerLink
from smpcfl.peer.service import PeerService
from smpcfl.protocol.errors import Reason
from smpcfl.protocol.messages import Survivors, Upload
from smpcfl.protocol.peer import PeerRound
from smpcfl.protocol.phases import Phase
from smpcfl.protocol.signing import AGGREGATOR, REGISTRY, Signer
from smpcfl.protocol.ticket import ADDITIVE, SEEDED, Policy, SignedTicket
from support.enrolled import Deployment
from support.network import Network, Round, make_ticket, peer_ids, random_addend

GIVEN = (bytes(32), bytes(32))  # the digests of the ticket's model and configuration
NOWHERE = "127.0.0.1:9"  # no registry is asked


class Party:
    """One peer: agent, server and link."""

    def __init__(self, own: Identity, folder: Path, clock: Any) -> None:
        self.own = own
        self.metrics = Metrics(SEEDED, CollectorRegistry())
        self.directory = Directory(own, NOWHERE, folder / f"{own.name}.roster")
        self.link = PeerLink(own, self.directory, self.metrics)
        self.serial_path = folder / f"{own.name}.serial"
        self.agent = PeerAgent(
            own,
            Policy(modes=(SEEDED, ADDITIVE)),
            self.directory.members,
            SerialStore(self.serial_path),
            self.link.send,
            self.metrics,
            clock,
        )
        self.server = rpc.new_server()
        service = PeerService(own, self.agent, self.directory.members, self.metrics)
        pb_grpc.add_PeerServicer_to_server(service, self.server)  # type: ignore[no-untyped-call]
        credentials = own.server_credentials()
        self.address = f"127.0.0.1:{rpc.bind(self.server, '127.0.0.1', 0, credentials, 'port')}"

    def rejected(self, reason: Reason) -> float:
        """What `smpcfl_rejected_total` counts."""
        return self.metrics.rejected.labels(reason=reason.value)._value.get()

    async def stop(self) -> None:
        self.agent.close_round()
        await self.server.stop(None)
        await self.link.close()
        await self.directory.close()


class Agents:
    """n peers, and the aggregator's identity in the hands of a test."""

    def __init__(self, folder: Path, n: int) -> None:
        self.deployment = Deployment(folder)
        self.cohort = peer_ids(n)
        self.aggregator = self.deployment.identity(Role.AGGREGATOR, AGGREGATOR)
        registry = self.deployment.identity(Role.REGISTRY, REGISTRY)
        identities = [self.deployment.identity(Role.PEER, peer) for peer in self.cohort]
        self._skipped = 0.0
        self._channels: list[grpc.aio.Channel] = []
        self.parties = {own.name: Party(own, folder, self._clock) for own in identities}
        for party in self.parties.values():
            everyone = [*identities, self.aggregator, registry]
            for own in everyone:
                party.directory.members.add(der(own.certificate))
            party.directory.by_registry = {p.own.name: p.address for p in self.parties.values()}
        self.uploads: dict[str, Upload] = {}

    def _clock(self) -> float:
        return time.monotonic() + self._skipped

    # -- what a `Network` has -----------------------------------------------------------------------

    @property
    def network(self) -> Network:
        """For `support.forge` and `support.attacker`."""
        return cast(Network, self)

    @property
    def rounds(self) -> dict[str, Round]:
        digest = self.ticket.digest
        return {peer: party.agent.round_of(digest) for peer, party in self.parties.items()}

    def signer_of(self, name: str) -> Signer:
        return (self.aggregator if name == AGGREGATOR else self.parties[name].own).signer

    # -- a round ------------------------------------------------------------------------------------

    def sign(self, signed: SignedTicket, **changes: Any) -> SignedTicket:
        """The ticket with changes, signed by this deployment's aggregator."""
        ticket = replace(signed.ticket, **changes)
        return SignedTicket(ticket, self.aggregator.signer(ticket.signed_bytes))

    async def begin(self, **changes: Any) -> None:
        """The ticket has reached everyone with the train message."""
        fresh = {"serial": int(time.time() * 1000), **changes}
        mode = fresh.pop("mode", SEEDED)
        self.signed = self.sign(make_ticket(len(self.cohort), mode=mode), **fresh)
        self.ticket = self.signed.ticket
        rng = np.random.default_rng(0)
        self.addends = {peer: random_addend(self.ticket.layout, rng) for peer in self.cohort}
        for party in self.parties.values():
            party.agent.take_ticket(self.signed, spread=True)

    async def upload(self) -> None:
        """As soon as all count, each peer's ClientApp masks its update and freezes it."""
        await asyncio.gather(*(self.upload_of(peer) for peer in self.cohort))

    async def upload_of(self, peer: str) -> None:
        agent, digest = self.parties[peer].agent, self.ticket.digest
        round_, masks, header = await agent.masks(digest, *GIVEN)
        vector = masks.apply(self.addends[peer]).tobytes()
        assert isinstance(round_, PeerRound)
        agent.freeze(digest, vector)
        self.uploads[peer] = Upload(header, round_.announcement, vector)

    async def all_ready(self) -> None:
        """All pairs count; nobody has asked for masks."""
        for party in self.parties.values():
            round_ = party.agent.round_of(self.ticket.digest)
            async for _ in party.agent._changes(round_):
                if round_.phase is Phase.READY and round_.all_count:
                    break

    async def agreed(self, peer: str) -> None:
        """This peer has signed a survivor set, and waits for its neighbours."""
        agent = self.parties[peer].agent
        round_ = agent.round_of(self.ticket.digest)
        async for _ in agent._changes(round_):
            if round_.phase is Phase.AGREED:
                break

    def skip_to(self, deadline_ms: int) -> None:
        """For everyone, without waiting."""
        self._skipped += deadline_ms / 1000
        for party in self.parties.values():
            party.agent.wake()

    # -- calls --------------------------------------------------------------------------------------

    def stub(self, caller: Identity, to: str) -> Any:
        """Of the peer service of `to`, with the certificate of `caller`."""
        channel = rpc.channel(caller, self.parties[to].address, Role.PEER, to)
        return self.stub_of(channel)

    def stub_of(self, channel: grpc.aio.Channel) -> Any:
        self._channels.append(channel)
        return pb_grpc.PeerStub(channel)  # type: ignore[no-untyped-call]

    async def unmask(self, to: str, message: Survivors, caller: Identity | None = None) -> Any:
        """The answer of one peer; AioRpcError if it refuses."""
        stub = self.stub(caller or self.aggregator, to)
        reply = await stub.Unmask(wire.survivors_to_proto(message, self.ticket), timeout=20)
        return wire.answer_from_proto(reply.answer)

    async def stop(self) -> None:
        for channel in self._channels:
            await channel.close()
        for party in self.parties.values():
            await party.stop()


@asynccontextmanager
async def agents(
    folder: Path, n: int = 5, round_class: type[PeerRound] = PeerRound
) -> AsyncIterator[Agents]:
    """Served until the end of the block. `round_class`: what the agents run."""
    true = agent_module.PeerRound
    agent_module.PeerRound = round_class  # type: ignore[misc]
    made = Agents(folder, n)
    try:
        for party in made.parties.values():
            await party.server.start()
        yield made
    finally:
        await made.stop()
        agent_module.PeerRound = true  # type: ignore[misc]


async def refusal(call: Any) -> Reason | None:
    """The reason with which a call is refused, None if it is answered."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        reason = rpc.reason_of(error)
        if reason is None:
            raise
        return reason
    return None
