"""What other peers and the aggregator may call: checks the role, hands the message to the agent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from smpc.v1 import messages_pb2 as messages
from smpc.v1 import peer_pb2 as pb
from smpc.v1 import peer_pb2_grpc as pb_grpc

from ..base.metrics import Metrics
from ..net import certificates, rpc, wire
from ..net.callers import Callers
from ..net.certificates import Identity, Members, Role
from ..net.kinds import KINDS
from ..net.rpc import Context
from ..protocol.errors import Reason, RemoteError
from ..protocol.messages import AdditiveShare
from .agent import PeerAgent

FIRST_CHUNK_S = 10.0


class PeerService(pb_grpc.PeerServicer):
    def __init__(
        self,
        own: Identity,
        agent: PeerAgent,
        members: Members,
        metrics: Metrics,
        callers: Callers | None = None,
    ) -> None:
        self._own = own
        self._agent = agent
        self._members = members
        self._incoming: dict[str, bytearray] = {}  # the share that is on its way from each peer
        limited = partial(
            rpc.handler,
            metrics=metrics,
            on_refusal=agent.log_refusal,
            callers=callers or Callers(),
        )
        methods = {row.method: self._for_the_round(kind) for kind, row in KINDS.items()}
        methods |= {"Offer": self._offer, "Share": self._share, "Identify": self._identify}
        methods |= {"Unmask": self._unmask}
        for name, method in methods.items():
            setattr(self, name, limited(name)(self._counted(method)))
        # Not counted: to look at the counts would change them.
        self.Traffic = limited("Traffic")(self._traffic)

    def _counted(self, method: Any) -> Any:
        """Counts request and reply in bytes; replies to peers are part of the round's p2p bytes.

        What the aggregator asks itself, goes over the channel that it unmasks by.
        """

        async def call(request: Any, context: Context) -> Any:
            role, name = rpc.caller(context)
            peer, channel = (name, "p2p") if role is Role.PEER else ("", "unmask")
            if hasattr(request, "ByteSize"):  # streams count their chunks themselves
                self._agent.traffic.count(rpc.size(request), "in", channel)
            rpc.check_standing(context, self._members.revoked)
            reply = await method(request, context)
            sent = rpc.size(reply)
            self._agent.traffic.count(sent, "out", channel, peer)
            if peer:
                self._agent.p2p_bytes += sent
            return reply

        return call

    async def _offer(self, request: messages.SignedTicket, context: Context) -> pb.Empty:
        await rpc.require(context, Role.PEER)
        signed = wire.ticket_from_proto(request)
        await self._agent.learn(signed)
        self._agent.take_ticket(signed)
        return pb.Empty()

    def _for_the_round(self, kind: type) -> Any:
        """Of a message that the open round takes."""
        row = KINDS[kind]
        roles = (Role.PEER, Role.AGGREGATOR) if row.relayed else (Role.PEER,)

        async def call(request: Any, context: Context) -> Any:
            peer = await rpc.require(context, *roles)
            round_ = self._agent.round_of(row.ticket(request))
            take = round_.handler(kind)
            message = row.request.read(request, round_.ticket.digest)
            reply = take(peer, message, self._agent.now())
            self._agent.wake()
            return row.reply.write(reply)

        return call

    async def _share(self, request: AsyncIterator[pb.ShareChunk], context: Context) -> pb.Empty:
        peer = await rpc.require(context, Role.PEER)
        chunks = aiter(request)
        try:
            first = await asyncio.wait_for(anext(chunks), FIRST_CHUNK_S)
        except (StopAsyncIteration, TimeoutError):
            raise RemoteError(Reason.MALFORMED, "empty stream", peer=peer) from None
        round_ = self._agent.round_of(first.ticket_digest)
        take = round_.handler(AdditiveShare)
        round_.ticket.index(peer)
        work = self._collect(peer, round_.ticket.layout.nbytes, first, chunks)
        vector = await self._agent.while_open(round_, work)
        take(peer, AdditiveShare(round_.ticket.digest, vector), self._agent.now())
        self._agent.wake()
        return pb.Empty()

    async def _collect(
        self, peer: str, size: int, first: pb.ShareChunk, rest: AsyncIterator[pb.ShareChunk]
    ) -> bytes:
        """At most `size` bytes, of one stream a peer: a second one takes the place of the first."""
        data = self._incoming[peer] = bytearray()
        chunk: pb.ShareChunk | None = first
        left = size // rpc.CHUNK_BYTES + 1  # chunks
        try:
            while chunk is not None:
                if self._incoming.get(peer) is not data:
                    raise RemoteError(Reason.RATE_LIMITED, "another stream of this peer", peer=peer)
                found, left = len(data) + len(chunk.data), left - 1
                if found > size or left < 0:
                    raise RemoteError(
                        Reason.WRONG_LENGTH, "share", peer=peer, expected=size, found=found
                    )
                data += chunk.data
                self._agent.traffic.count(rpc.size(chunk), "in", "p2p")
                chunk = await anext(rest, None)
            return bytes(data)
        finally:
            if self._incoming.get(peer) is data:
                del self._incoming[peer]

    async def _identify(self, request: pb.Empty, context: Context) -> pb.Certificate:
        rpc.caller(context)
        return pb.Certificate(
            der=certificates.der(self._own.certificate), instance=self._agent.instance
        )

    async def _traffic(self, request: pb.Empty, context: Context) -> pb.TrafficReply:
        rpc.check_standing(context, self._members.revoked)
        await rpc.require(context, Role.AGGREGATOR)
        return self._agent.traffic.to_proto()

    async def _unmask(self, request: messages.Survivors, context: Context) -> pb.UnmaskReply:
        await rpc.require(context, Role.AGGREGATOR)
        round_ = self._agent.seeded(request.ticket_digest)
        answer = await self._agent.unmask(wire.survivors_from_proto(request, round_.ticket))
        return pb.UnmaskReply(answer=wire.answer_to_proto(answer), p2p_bytes=self._agent.p2p_bytes)
