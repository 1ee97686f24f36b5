"""The Unix socket at which ClientApps of all virtual peers find their agents, as each real one finds its own.

The calls are those of a peer's agent. They are answered at once: nobody in memory has to be waited for.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import grpc

from smpc.v1 import local_pb2 as pb
from smpc.v1 import local_pb2_grpc as pb_grpc

from ..net import agent_wire, rpc, wire
from ..net.hub_socket import NODE, PARTITION
from ..protocol.errors import Reason, RemoteError
from .hub import Hub

log = logging.getLogger("smpcfl.simulation")
_THREADS = 32


def _refusing(method: Callable[..., Any]) -> Callable[..., Any]:
    """A RemoteError becomes a refusal that carries its reason."""

    @functools.wraps(method)
    def call(self: HubService, request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return method(self, request, context)
        except RemoteError as error:
            _refuse(context, error)

    return call


def _refuse(context: grpc.ServicerContext, error: RemoteError) -> NoReturn:
    context.set_trailing_metadata(rpc.refusal_metadata(error))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
    raise AssertionError("abort does not return")


class HubService(pb_grpc.AgentServicer):
    """The call's metadata say which peer's agent it is for."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._instance = os.urandom(8)

    @_refusing
    def Identity(self, request: pb.IdentityRequest, context: grpc.ServicerContext) -> Any:
        peer = self._hub.peer(_node(context))
        return pb.IdentityReply(
            peer=peer.name, modes=self._hub.policy.modes, instance=self._instance
        )

    @_refusing
    def Begin(self, request: pb.BeginRequest, context: grpc.ServicerContext) -> Any:
        ticket = wire.ticket_from_proto(request.ticket)
        node = _node(context)
        round_ = self._hub.begin(node, ticket, request.model_digest, request.content_digest)
        return pb.BeginReply(
            frozen=round_.frozen is not None, given_seed=True, peer=self._hub.peer(node).name
        )

    @_refusing
    def Frozen(self, request: pb.FrozenRequest, context: grpc.ServicerContext) -> Any:
        round_ = self._hub.round_of(_node(context), request.ticket_digest)
        return iter(list(agent_wire.frozen_chunks(round_)))

    @_refusing
    def Masks(self, request: pb.MasksRequest, context: grpc.ServicerContext) -> Any:
        node = _node(context)
        who = f"{self._hub.peer(node).name} (partition {_given(context, PARTITION)})"
        if request.failure:
            log.error("%s: training failed, and a zero is sent: %s", who, request.failure)
        if request.unreported:
            log.warning(
                "%s: no metrics are sent, so that nobody's are summed: %s", who, request.unreported
            )
        round_, masks, header = self._hub.masks(
            node, request.ticket_digest, failed=bool(request.failure)
        )
        return agent_wire.masks_chunks(round_, masks, header)

    @_refusing
    def Freeze(self, request: Iterator[pb.FreezeChunk], context: grpc.ServicerContext) -> Any:
        digest, vector = b"", bytearray()
        for chunk in request:
            digest = digest or chunk.ticket_digest
            vector += chunk.vector
        return pb.FreezeReply(p2p_bytes=self._hub.freeze(_node(context), digest, bytes(vector)))


def _node(context: grpc.ServicerContext) -> int:
    text = _given(context, NODE)
    if not text.isdigit():
        raise RemoteError(Reason.MALFORMED, "no node in the call's metadata", found=text)
    return int(text)


def _given(context: grpc.ServicerContext, key: str) -> str:
    return str(dict(context.invocation_metadata()).get(key, ""))


def serve(hub: Hub, socket: Path) -> grpc.Server:
    """Listens at `socket` from now on, which only this user can open. To be stopped by the caller."""
    server = grpc.server(ThreadPoolExecutor(_THREADS, thread_name_prefix="hub"))
    pb_grpc.add_AgentServicer_to_server(HubService(hub), server)
    server.add_insecure_port(f"unix:{socket}")
    server.start()
    socket.chmod(0o600)
    return server
