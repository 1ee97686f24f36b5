"""The agent's calls to other peers, over gRPC and mutual TLS."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import grpc
import grpc.aio

from smpc.v1 import peer_pb2 as pb
from smpc.v1 import peer_pb2_grpc as pb_grpc

from ..base.log_events import LogEvent, about
from ..base.metrics import Metrics
from ..net import rpc
from ..net.certificates import Identity, IdentityError, Role, check_certificate
from ..net.dial import NoAddress, PeerChannels
from ..net.directory import Directory
from ..net.kinds import KINDS
from ..protocol.errors import Reason, RemoteError
from ..protocol.messages import Call, PeerMessage
from .agent import CallFailed
from .traffic import Traffic

log = logging.getLogger("smpcfl.peer")
CALL_S = 5.0
SHARE_S = 60.0


class PeerLink:
    """What a round sends, to whichever address the peer answers at."""

    def __init__(
        self, own: Identity, directory: Directory, metrics: Metrics, traffic: Traffic | None = None
    ) -> None:
        self._directory = directory
        self._metrics = metrics
        self._traffic = traffic or Traffic(metrics)
        self._channels = PeerChannels(own, directory)

    async def send(self, call: Call, count: Callable[[int], None]) -> PeerMessage | None:
        """The reply. CallFailed if there is none. `count` hears of the bytes that go out."""
        began, outcome, method = time.perf_counter(), "error", "none"
        try:
            channel = self._channels.to(call.to)
        except NoAddress as error:
            raise CallFailed(str(error)) from error
        try:
            stub = pb_grpc.PeerStub(channel)
            if self._directory.members.get(call.to) is None:
                await self._identify(stub, call.to)
            kind = KINDS[type(call.message)]
            method, timeout = kind.method, SHARE_S if kind.streams else CALL_S
            request = kind.request.write(call.message)
            sent = kind.size(call.message) if kind.streams else rpc.size(request)
            self._traffic.count(sent, "out", "p2p", call.to)
            count(sent)
            reply = await getattr(stub, method)(request, timeout=timeout)
            self._traffic.count(rpc.size(reply), "in", "p2p", call.to)
            message: PeerMessage | None = kind.reply.read(reply, call.message.ticket_digest)
            outcome = "ok"
            return message
        except RemoteError as error:
            self._metrics.rejected.inc(reason=error.reason.value)
            raise CallFailed(f"{call.to}: {error}") from error
        except grpc.aio.AioRpcError as error:
            reason = rpc.reason_of(error)
            outcome = "refused" if reason else "error"
            if reason is None:
                self._channels.failed(call.to, channel)
            elif reason is not Reason.UNKNOWN_TICKET:
                log.warning(
                    "%s refused %s: %s",
                    call.to,
                    method,
                    error.details(),
                    extra=about(LogEvent.CALL_REFUSED, peer=call.to),
                )
            raise CallFailed(str(error.details()), reason) from error
        except asyncio.CancelledError:
            # Its round was closed. A channel to a peer that is gone would go on trying to connect.
            self._channels.close(call.to)
            raise
        finally:
            seconds = time.perf_counter() - began
            self._metrics.rpc_duration.observe(seconds, method=f"{method}.out", outcome=outcome)

    async def _identify(self, stub: pb_grpc.PeerStub, peer: str) -> None:
        """A certificate for a peer found by mDNS alone; the CA vouches for it."""
        reply = await stub.Identify(pb.Empty(), timeout=CALL_S)
        try:
            shown = check_certificate(reply.der, self._directory.members.ca)
        except IdentityError as error:
            raise CallFailed(f"{peer}: {error}") from error
        if shown.name != peer or shown.role is not Role.PEER:
            raise CallFailed(f"{peer} showed a certificate of {shown.name}")
        self._directory.members.add(reply.der)

    async def close(self) -> None:
        await self._channels.close_all()
