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
from ..net.rpc import Context
from ..protocol.additive import AdditivePeerRound
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
        self._metrics = metrics
        self._incoming: dict[str, bytearray] = {}  # the share that is on its way from each peer
        limited = partial(
            rpc.handler,
            metrics=metrics,
            on_refusal=agent.log_refusal,
            callers=callers or Callers(),
        )
        for name in ("Offer", "Exchange", "Acknowledge", "Ready", "Agree", "Share", "Identify"):
            method = self._counted(getattr(self, f"_{name.lower()}"), "p2p")
            setattr(self, name, limited(name)(method))
        unmask = self._counted(self._unmask, "unmask")
        self.Unmask = limited("Unmask")(unmask)

    def _counted(self, method: Any, channel: str) -> Any:
        """Counts request and reply in bytes; replies to peers are part of the round's p2p bytes."""

        async def call(request: Any, context: Context) -> Any:
            if hasattr(request, "ByteSize"):  # streams count their chunks themselves
                received = request.ByteSize() + rpc.FRAME_BYTES
                self._metrics.bytes.inc(received, direction="in", channel=channel)
            rpc.check_standing(context, self._members.revoked)
            reply = await method(request, context)
            sent = reply.ByteSize() + rpc.FRAME_BYTES
            self._metrics.bytes.inc(sent, direction="out", channel=channel)
            if channel == "p2p":
                self._agent.p2p_bytes += sent
            return reply

        return call

    async def _offer(self, request: messages.SignedTicket, context: Context) -> pb.Empty:
        await rpc.require(context, Role.PEER)
        self._agent.take_ticket(wire.ticket_from_proto(request))
        return pb.Empty()

    async def _exchange(self, request: messages.Exchange, context: Context) -> messages.Exchange:
        peer = await rpc.require(context, Role.PEER)
        message = wire.exchange_from_proto(request)
        round_ = self._agent.seeded(message.announcement.ticket_digest)
        reply = round_.exchange(peer, message, self._agent.now())
        self._agent.wake()
        return wire.exchange_to_proto(reply)

    async def _acknowledge(self, request: messages.Acknowledge, context: Context) -> pb.Empty:
        peer = await rpc.require(context, Role.PEER)
        round_ = self._agent.seeded(request.ticket)
        message = wire.acknowledge_from_proto(request, round_.ticket.digest)
        round_.acknowledge(peer, message, self._agent.now())
        self._agent.wake()
        return pb.Empty()

    async def _ready(self, request: messages.Ready, context: Context) -> messages.ReadyReply:
        peer = await rpc.require(context, Role.PEER)
        round_ = self._agent.seeded(request.ticket)
        message = wire.ready_from_proto(request, round_.ticket.digest)
        reply = round_.ready(peer, message, self._agent.now())
        self._agent.wake()
        return wire.ready_reply_to_proto(reply)

    async def _agree(self, request: messages.Agreement, context: Context) -> pb.Empty:
        await rpc.require(context, Role.PEER, Role.AGGREGATOR)
        round_ = self._agent.seeded(request.ticket)
        round_.agreement(wire.agreement_from_proto(request, round_.ticket.digest))
        self._agent.wake()
        return pb.Empty()

    async def _share(self, request: AsyncIterator[pb.ShareChunk], context: Context) -> pb.Empty:
        peer = await rpc.require(context, Role.PEER)
        chunks = aiter(request)
        try:
            first = await asyncio.wait_for(anext(chunks), FIRST_CHUNK_S)
        except (StopAsyncIteration, TimeoutError):
            raise RemoteError(Reason.MALFORMED, "empty stream", peer=peer) from None
        round_ = self._agent.round_of(first.ticket_digest)
        if not isinstance(round_, AdditivePeerRound):
            raise RemoteError(Reason.POLICY_MODE, expected="additive", found="seeded")
        round_.ticket.index(peer)
        work = self._collect(peer, round_.ticket.layout.nbytes, first, chunks)
        vector = await self._agent.while_open(round_, work)
        share = AdditiveShare(round_.ticket.digest, vector)
        round_.share(peer, share, self._agent.now())
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
                received = chunk.ByteSize() + rpc.FRAME_BYTES
                self._metrics.bytes.inc(received, direction="in", channel="p2p")
                chunk = await anext(rest, None)
            return bytes(data)
        finally:
            if self._incoming.get(peer) is data:
                del self._incoming[peer]

    async def _identify(self, request: pb.Empty, context: Context) -> pb.Certificate:
        rpc.caller(context)
        return pb.Certificate(der=certificates.der(self._own.certificate), start=self._agent.start)

    async def _unmask(self, request: messages.Survivors, context: Context) -> pb.UnmaskReply:
        await rpc.require(context, Role.AGGREGATOR)
        round_ = self._agent.seeded(request.ticket_digest)
        answer = await self._agent.unmask(wire.survivors_from_proto(request, round_.ticket))
        return pb.UnmaskReply(answer=wire.answer_to_proto(answer), p2p_bytes=self._agent.p2p_bytes)
