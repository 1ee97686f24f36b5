"""The Unix socket that the ClientApp talks to. Only its owner can open it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable

from smpc.v1 import local_pb2 as pb
from smpc.v1 import local_pb2_grpc as pb_grpc

from ..base.log_events import LogEvent
from ..base.metrics import Metrics
from ..net import agent_wire, rpc, wire
from ..net.rpc import Context
from ..protocol.digests import config_digest
from ..protocol.errors import Reason, RemoteError
from .agent import PeerAgent

log = logging.getLogger("smpcfl.peer")


class AgentService(pb_grpc.AgentServicer):
    """`app_of`: SHA-256 of the app that Flower's run of this number really is, as the SuperNode verified it.

    `given_seed`: the operator lets the aggregator give the seed of the rounding.
    """

    def __init__(
        self,
        agent: PeerAgent,
        metrics: Metrics,
        app_of: Callable[[int], bytes | None],
        *,
        given_seed: bool = False,
    ) -> None:
        self._agent = agent
        self._metrics = metrics
        self._find_app = app_of
        self._given_seed = given_seed
        for name in ("Identity", "Begin", "Freeze", "Report"):
            method = getattr(self, f"_{name.lower()}")
            setattr(
                self,
                name,
                rpc.handler(name, metrics, timed=False, on_refusal=agent.log_refusal)(method),
            )

    async def _identity(self, request: pb.IdentityRequest, context: Context) -> pb.IdentityReply:
        certificate, signature = self._agent.vouch(request.node)
        return pb.IdentityReply(
            peer=self._agent.name,
            modes=self._agent.policy.modes,
            instance=self._agent.instance,
            certificate=certificate,
            signature=signature,
            guarantee=self._agent.guarantee,
        )

    async def _begin(self, request: pb.BeginRequest, context: Context) -> pb.BeginReply:
        signed = wire.ticket_from_proto(request.ticket)
        await self._agent.learn(signed)
        round_ = self._agent.take_ticket(signed, spread=True)
        app = self._app_of(request.flower_run)
        digest = config_digest(request.content_digest, app)
        round_.begin(request.model_digest, digest, self._agent.now())
        return pb.BeginReply(
            frozen=round_.frozen is not None,
            floor_ms=self._agent.floors.ms(round_.ticket.task),
            given_seed=self._given_seed,
            peer=self._agent.name,
        )

    def _app_of(self, flower_run: int) -> bytes:
        app = self._find_app(flower_run)
        if app is None:
            raise RemoteError(
                Reason.CONFIG_MISMATCH, "no app was verified for this Flower run", found=flower_run
            )
        return app

    async def Frozen(
        self, request: pb.FrozenRequest, context: Context
    ) -> AsyncIterator[pb.UploadChunk]:
        try:
            for chunk in agent_wire.frozen_chunks(self._agent.round_of(request.ticket_digest)):
                yield chunk
        except RemoteError as error:
            await rpc.refuse(context, error)

    async def Masks(
        self, request: pb.MasksRequest, context: Context
    ) -> AsyncIterator[pb.MasksChunk]:
        try:
            if request.failure:
                log.error(
                    "training failed, and a zero is sent: %s",
                    request.failure,
                    extra=self._agent.about(LogEvent.TRAINING_FAILED),
                )
            if request.unreported:
                log.warning(
                    "no metrics are sent, so that nobody's are summed: %s",
                    request.unreported,
                    extra=self._agent.about(LogEvent.METRICS_WITHHELD),
                )
            round_, masks, header = await self._agent.masks(
                request.ticket_digest, request.released_ms, failed=bool(request.failure)
            )
        except RemoteError as error:
            self._agent.refused(error)
            await rpc.refuse(context, error)
        for chunk in agent_wire.masks_chunks(round_, masks, header):
            yield chunk

    async def _freeze(
        self, request: AsyncIterator[pb.FreezeChunk], context: Context
    ) -> pb.FreezeReply:
        digest, vector, place = b"", bytearray(), 0
        async for chunk in request:
            digest = digest or chunk.ticket_digest
            expected = self._agent.round_of(digest).ticket.layout.nbytes
            if not vector:
                vector = bytearray(expected)  # as long as it will be: to grow it takes it twice
            end = place + len(chunk.vector)
            if end > expected:
                raise RemoteError(Reason.WRONG_LENGTH, "upload", expected=expected)
            vector[place:end] = chunk.vector
            place = end
        if not digest:
            raise RemoteError(Reason.MALFORMED, "empty stream")
        self._agent.freeze(digest, memoryview(vector)[:place].toreadonly())
        return pb.FreezeReply(p2p_bytes=self._agent.p2p_bytes)

    async def _report(self, request: pb.ReportRequest, context: Context) -> pb.ReportReply:
        self._agent.traffic.count(request.bytes_in, "in", "flower")
        self._agent.traffic.count(request.bytes_out, "out", "flower")
        return pb.ReportReply()
