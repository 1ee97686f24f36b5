"""A cohort in one process as it is deployed: peers as `smpcfl peer` wires them, gRPC under mutual TLS."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import grpc.aio
import numpy as np

from smpc.v1 import local_pb2 as local_pb
from smpc.v1 import peer_pb2_grpc
from smpcfl.flower.server.peer_calls import PeerCalls
from smpcfl.flower.server.unmasking import Unmasking
from smpcfl.net import certificates, rpc, wire
from smpcfl.net.callers import Callers
from smpcfl.net.certificates import Identity, Members, Role
from smpcfl.peer import agent as agent_module
from smpcfl.protocol.aggregator_round import AggregatorRound
from smpcfl.protocol.digests import config_digest
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.keystream import Secret
from smpcfl.protocol.masks import AdditiveMasks, SeededMasks
from smpcfl.protocol.messages import Answer, Survivors, Upload
from smpcfl.protocol.peer_round import PeerRound
from smpcfl.protocol.ring import RingVector
from smpcfl.protocol.signing import AGGREGATOR, Signer, signer
from smpcfl.protocol.ticket import ADDITIVE, SEEDED, SignedTicket, Ticket
from support.attacker import Loot
from support.deployed_peer import APPS, NOWHERE, Clock, DeployedPeer
from support.enrolled import Deployment
from support.forge import round_of, survivors
from support.network import POLICY, Round, make_ticket, peer_ids, random_addend

CONTENT = bytes(32)  # digest of what the ClientApps are given beside the model
LONG_S = 60.0  # for what has to come: never waited out where the code is right


class Deployed:
    """`n` peers and an aggregator. What `support.forge` and `support.attacker` ask of a network, it has.

    `kind` is the round that all peers run, `callers` the limits that all share. `addends` are the q_i, by
    peer id.
    """

    def __init__(
        self,
        folder: Path,
        n: int,
        *,
        kind: type[PeerRound] = PeerRound,
        callers: Callers | None = None,
    ) -> None:
        self.folder = folder
        self.enrolled = Deployment(folder)
        self.cohort = peer_ids(n)
        self.policy = POLICY
        self.clock = Clock()
        self.aggregator = self.enrolled.identity(Role.AGGREGATOR, AGGREGATOR)
        self.reported: list[RemoteError] = []  # what the honest aggregator refused of the answers
        self.events: list[local_pb.RunEvent] = []  # what it tells its service
        self.keyring = Members(self.enrolled.ca)
        self.peers: dict[str, DeployedPeer] = {}
        self.addends: dict[str, RingVector] = {}
        self.uploads: dict[str, Upload] = {}
        self.rounds: dict[str, Round] = {}
        self.survivors: list[str] = []
        self.signed: SignedTicket
        self._serial = 0
        self._kind = kind
        self._callers = callers
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Deployed:
        self._stack.enter_context(patch.object(agent_module, "PeerRound", self._kind))
        self._stack.enter_context(patch.object(agent_module, "SPREAD_S", 0.0))
        self.keyring.add(certificates.der(self.aggregator.certificate))
        for name in self.cohort:
            await self._start(self.enrolled.identity(Role.PEER, name))
        for peer in self.peers.values():
            self._introduce(peer)
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._stack.aclose()

    async def _start(self, own: Identity) -> None:
        folder = self.folder / str(self.cohort.index(own.name))
        peer = self.peers[own.name] = DeployedPeer(own, folder, self.clock, self._callers)
        await peer.serve()
        self._stack.push_async_callback(peer.stop)
        self.keyring.add(certificates.der(own.certificate))

    def _introduce(self, peer: DeployedPeer) -> None:
        """It knows where all are now, and who."""
        peer.directory.by_registry = self.addresses()
        for known in (self.aggregator, *(p.own for p in self.peers.values())):
            peer.members.add(certificates.der(known.certificate))

    async def restart(self, index: int) -> DeployedPeer:
        """The same peer with nothing but what is on its disk."""
        gone = self.peer(index)
        await gone.stop()
        await self._start(gone.own)
        self._introduce(self.peer(index))
        return self.peer(index)

    # -- who is who -------------------------------------------------------------------------------

    def signer_of(self, name: str) -> Signer:
        return signer(self.enrolled.key(name))

    def peer(self, index: int) -> DeployedPeer:
        return self.peers[self.cohort[index]]

    def addresses(self) -> dict[str, str]:
        """By peer id."""
        return {name: peer.address for name, peer in self.peers.items()}

    def channel(self, caller: Identity, to: int) -> grpc.aio.Channel:
        """One more connection of `caller`, who may say anything, to peer `to`."""
        channel = rpc.channel(caller, self.peer(to).address, Role.PEER, self.cohort[to])
        self._stack.push_async_callback(channel.close)
        return channel

    def stub(self, caller: Identity, to: int) -> peer_pb2_grpc.PeerStub:
        return peer_pb2_grpc.PeerStub(self.channel(caller, to))

    def rejected(self, reason: Reason) -> int:
        """By all peers together."""
        return sum(peer.rejected(reason) for peer in self.peers.values())

    def cut(self, one: int, other: int, *kinds: type) -> None:
        """The network, which may be the attacker's, loses these messages between the two."""
        for here, there in ((one, other), (other, one)):
            self.peer(here).cut |= {(self.cohort[there], kind) for kind in kinds}

    # -- the clock --------------------------------------------------------------------------------

    def skip_to(self, deadline_ms: int) -> None:
        """Until this deadline of the round has passed for everyone."""
        latest = min(peer.agent.now() for peer in self.peers.values())
        self.clock.skipped += max(deadline_ms / 1000 - latest, 0.0)
        for peer in self.peers.values():
            peer.agent.wake()

    async def pass_deadlines(self, present: Sequence[int]) -> None:
        """Those of exchange and ready, as soon as the `present` have done their part with one another."""
        rounds = [round_of(self, index) for index in present]

        def all_have(found: Callable[[PeerRound], Iterable[int]]) -> bool:
            return all({round_.me, *found(round_)} >= set(present) for round_ in rounds)

        await self.until(lambda: all_have(lambda round_: round_._of.held))
        self.skip_to(self.ticket.deadlines.exchange)
        await self.until(lambda: all_have(PeerRound._counted))
        self.skip_to(self.ticket.deadlines.ready)

    async def until(self, condition: Callable[[], bool], *tasks: asyncio.Task[Any]) -> None:
        """Looked at whenever something changes at an agent, or one of `tasks` ends."""
        async with asyncio.timeout(LONG_S):
            while True:
                waits = [
                    asyncio.ensure_future(peer.agent._changed.wait())
                    for peer in self.peers.values()
                ]
                if condition():
                    break
                pending = [task for task in tasks if not task.done()]
                await asyncio.wait([*waits, *pending], return_when=asyncio.FIRST_COMPLETED)
                for wait in waits:
                    wait.cancel()
        for wait in waits:
            wait.cancel()

    # -- an honest round --------------------------------------------------------------------------

    @property
    def ticket(self) -> Ticket:
        return self.signed.ticket

    def make_ticket(self, **changes: Any) -> SignedTicket:
        """A fresh one over a new model, of the real aggregator; `changes` replace fields first."""
        self._serial = max(self._serial + 1, int(time.time() * 1000))
        changes = {
            "serial": self._serial,
            "nonce": os.urandom(32),
            "model_digest": os.urandom(32),
            "config_digest": config_digest(CONTENT, APPS[1]),
            **changes,
        }
        return self.sign(replace(make_ticket(len(self.cohort)).ticket, **changes))

    def sign(self, ticket: Ticket) -> SignedTicket:
        return SignedTicket(ticket, self.aggregator.signer(ticket.signed_bytes))

    async def begin(self, signed: SignedTicket | None = None, without: Sequence[int] = ()) -> None:
        """Every ClientApp but those `without` has the ticket from Flower."""
        self.signed = signed or self.make_ticket()
        self.uploads, self.rounds, rng = {}, {}, np.random.default_rng()
        for index, (name, peer) in enumerate(self.peers.items()):
            self.addends[name] = random_addend(self.ticket.layout, rng)
            if index not in without:
                await peer.app.Begin(beginning(self.signed), timeout=LONG_S)
                self.rounds[name] = peer.agent.round_of(self.ticket.digest)

    async def masks(
        self, name: str, *, failure: str = ""
    ) -> tuple[SeededMasks | AdditiveMasks, bytes]:
        """As the ClientApp of `name` gets them, with the serialised UploadMeta."""
        request = local_pb.MasksRequest(ticket_digest=self.ticket.digest, failure=failure)
        chunks = [chunk async for chunk in self.peers[name].app.Masks(request, timeout=LONG_S)]
        meta = chunks[0].meta.SerializeToString()
        if self.ticket.mode == ADDITIVE:
            return AdditiveMasks(b"".join(chunk.vector for chunk in chunks)), meta
        plus, minus = map(Secret, chunks[0].plus), map(Secret, chunks[0].minus)
        return SeededMasks(Secret(chunks[0].self_key), tuple(plus), tuple(minus)), meta

    async def freeze(self, name: str, vector: bytes) -> None:
        digest = self.ticket.digest
        chunks = [
            local_pb.FreezeChunk(ticket_digest=digest, vector=piece) for piece in rpc.pieces(vector)
        ]
        await self.peers[name].app.Freeze(iter(chunks), timeout=LONG_S)

    async def upload(self, names: Iterable[str] | None = None) -> None:
        """What reaches the aggregator, honest or not, of those who take part."""

        async def one(name: str) -> None:
            masks, meta = await self.masks(name)
            vector = masks.apply(self.addends[name].copy()).tobytes()
            await self.freeze(name, vector)
            self.uploads[name] = wire.upload_from(meta, vector)

        await asyncio.gather(*map(one, self.rounds if names is None else names))

    async def finish(self) -> RingVector:
        """The honest aggregator's end of the round: the sum, or RemoteError where it is void."""
        state = self.received()
        if self.ticket.mode == SEEDED:
            async with self.unmasking() as unmasking:
                await unmasking.run(state)
        return state.total()

    def received(self) -> AggregatorRound:
        """At the honest aggregator: all uploads are in, the survivors fixed."""
        state = AggregatorRound(self.signed, self.aggregator.signer, self.keyring)
        for name, upload in self.uploads.items():
            state.upload(name, upload)
        self.survivors = state.fix_survivors()
        return state

    @asynccontextmanager
    async def unmasking(self) -> AsyncIterator[Unmasking]:
        folder = self.folder / "unmasking"
        calls = PeerCalls(self.events.append)
        refused = self.reported.append
        async with Unmasking(self.aggregator, NOWHERE, folder, refused, calls) as unmasking:
            unmasking.directory.by_registry = self.addresses()
            yield unmasking

    def true_sum(self, names: Iterable[str]) -> RingVector:
        total = self.ticket.layout.zeros()
        for name in names:
            total += self.addends[name]
        return total

    # -- the lying aggregator ---------------------------------------------------------------------

    async def unmask(
        self, to: int, message: Survivors, caller: Identity | None = None
    ) -> Answer | Reason:
        """What peer `to` answers to a survivor set, or why it refuses."""
        stub = self.stub(caller or self.aggregator, to)
        request = wire.survivors_to_proto(message, self.ticket)
        found = await outcome(stub.Unmask(request, timeout=LONG_S))
        return found if isinstance(found, Reason) else wire.answer_from_proto(found.answer)

    async def show(
        self, sets: Mapping[int, Sequence[int] | Survivors]
    ) -> tuple[Loot, list[Reason]]:
        """Shows each peer its own survivor set; everything that is answered, and every refusal.

        The agree deadline passes for those who then still wait for others to agree.
        """
        net: Any = self
        loot, refusals, tasks = Loot(net), [], {}
        for index, shown in sets.items():
            message = shown if isinstance(shown, Survivors) else survivors(net, shown)
            tasks[index] = asyncio.create_task(self.unmask(index, message))

        def has_told(index: int) -> bool:
            round_ = round_of(net, index)
            told = [round_._of[j].agreed_to for j in round_.neighbours]
            return round_._agreement is None or all(told)

        def has_enough(index: int) -> bool:
            own = round_of(net, index)._agreement
            assert own is not None
            same = round_of(net, index)._of.agreed(own.survivors_digest)
            sums = {i.peer for i in (own, *same) if i.failure_sum is not None}
            return len(same) >= self.ticket.threshold < len(sums)

        def is_settled() -> bool:
            """Nobody waits, or only for agreements that are not to come."""
            waiting = [index for index, task in tasks.items() if not task.done()]
            if any(round_of(net, index)._agreement is None for index in waiting):
                return False
            return all(map(has_told, tasks if waiting else ())) and not any(
                map(has_enough, waiting)
            )

        await self.until(is_settled, *tasks.values())
        if not all(task.done() for task in tasks.values()):
            self.skip_to(self.ticket.deadlines.agree)
        for found in await asyncio.gather(*tasks.values()):
            if isinstance(found, Reason):
                refusals.append(found)
            else:
                loot.take_answer(found)
        return loot, refusals


def beginning(signed: SignedTicket, **changes: Any) -> local_pb.BeginRequest:
    """As a ClientApp asks that was given what the ticket digests, but for `changes`."""
    given = {
        "ticket": wire.ticket_to_proto(signed),
        "model_digest": signed.ticket.model_digest,
        "content_digest": CONTENT,
        "flower_run": 1,
    }
    return local_pb.BeginRequest(**{**given, **changes})


async def outcome(call: Any) -> Any:
    """The reply, or the Reason that the call was refused with."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        reason = rpc.reason_of(error)
        if reason is None:
            raise
        return reason
