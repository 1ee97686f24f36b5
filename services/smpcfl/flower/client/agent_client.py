"""The ClientApp's side of the agent's Unix socket."""

from __future__ import annotations

import logging
import os
from types import TracebackType
from typing import ClassVar

import grpc
from flwr.app import Context

from smpc.v1 import local_pb2 as pb
from smpc.v1 import local_pb2_grpc as pb_grpc
from smpc.v1 import messages_pb2 as messages

from ...net import hub_socket, rpc
from ...protocol.errors import LocalError, Reason, RemoteError
from ...protocol.keystream import Secret
from ...protocol.masks import AdditiveMasks, SeededMasks
from ...protocol.ring import Raw

log = logging.getLogger("smpcfl.flower")
VARIABLE = "SMPCFL_AGENT"
_CALL_S = 10.0
_UPLOAD_S = 60.0
_MASKS_S = 24 * 3600.0  # the agent ends it at the round's own deadline


class AgentClient:
    """LocalError where the agent is not there, RemoteError with its reason where it refuses.

    `socket`: the agent's path; left out, what the environment names, as in a ClientApp's process.
    `simulated`: it is a virtual peer's, in the hub, and `metadata` say to the hub which one's. The channel to
    the hub is kept for the ClientApps that this process has after this one.
    """

    simulated = False
    metadata: tuple[tuple[str, str], ...] = ()
    _call_s, _upload_s = _CALL_S, _UPLOAD_S

    def __init__(self, socket: str | None = None) -> None:
        socket = socket or os.environ.get(VARIABLE)
        if not socket:
            raise LocalError(
                f"{VARIABLE} is not set: this ClientApp has no agent; start its SuperNode with"
                " `smpcfl peer` (in Flower's simulation engine: the ServerApp has to use SecureStrategy)"
            )
        self._channel = self._connect(socket)
        self._stub = pb_grpc.AgentStub(self._channel)
        self._socket = socket

    @classmethod
    def of(cls, context: Context) -> AgentClient:
        """This peer's agent; in Flower's simulation engine, the one that the hub has for this node."""
        hub = hub_socket.find(context.run_id) if VARIABLE not in os.environ else None
        if hub is None:
            return cls()
        client = _HubClient(str(hub))
        partition = context.node_config.get("partition-id", "")
        client.metadata = (
            (hub_socket.NODE, str(context.node_id)),
            (hub_socket.PARTITION, str(partition)),
        )
        return client

    def __enter__(self) -> AgentClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()
        if isinstance(error, grpc.RpcError):
            reason = rpc.reason_of(error)
            detail = str(error.details()) if isinstance(error, grpc.Call) else str(error)
            if reason is not None:
                raise AgentRefusal(reason, detail) from error
            # The text goes to the aggregator: what gRPC says, which may tell sizes, stays here.
            log.error("the agent at %s does not answer: %s", self._socket, detail)
            raise LocalError("this peer's agent does not answer: its own log says why") from error

    def _connect(self, socket: str) -> grpc.Channel:
        return rpc.local_channel(socket)

    def _close(self) -> None:
        self._channel.close()

    def identity(self, node: int = 0) -> pb.IdentityReply:
        """Peer id, the modes that the peer's own policy allows, and which instance of the agent this is.

        With its signature that Flower's `node` is this peer.
        """
        return self._stub.Identity(
            pb.IdentityRequest(node=node), timeout=self._call_s, metadata=self.metadata
        )

    def begin(
        self,
        ticket: messages.SignedTicket,
        model_digest: bytes,
        content_digest: bytes,
        flower_run: int,
    ) -> pb.BeginReply:
        """Opens the round: whether to train, or to resend an upload that was frozen before."""
        request = pb.BeginRequest(
            ticket=ticket,
            model_digest=model_digest,
            content_digest=content_digest,
            flower_run=flower_run,
        )
        return self._stub.Begin(request, timeout=self._call_s, metadata=self.metadata)

    def frozen(self, ticket_digest: bytes) -> tuple[bytes, bytes]:
        """The frozen upload: serialised UploadMeta, and the vector."""
        request = pb.FrozenRequest(ticket_digest=ticket_digest)
        chunks = list(self._stub.Frozen(request, timeout=self._upload_s, metadata=self.metadata))
        return chunks[0].meta.SerializeToString(), b"".join(chunk.vector for chunk in chunks)

    def masks(
        self, ticket_digest: bytes, released_ms: int, failure: str, unreported: str
    ) -> tuple[SeededMasks | AdditiveMasks, bytes]:
        """The masks, and the serialised UploadMeta; waits until they may be given.

        `released_ms`: after training began; `failure`: why there is only a zero;
        `unreported`: why there are no metrics.
        """
        request = pb.MasksRequest(
            ticket_digest=ticket_digest,
            released_ms=released_ms,
            failure=failure,
            unreported=unreported,
        )
        chunks = list(self._stub.Masks(request, timeout=_MASKS_S, metadata=self.metadata))
        first = chunks[0]
        meta = first.meta.SerializeToString()
        if first.self_key:
            plus, minus = tuple(map(Secret, first.plus)), tuple(map(Secret, first.minus))
            return SeededMasks(Secret(first.self_key), plus, minus), meta
        return AdditiveMasks(b"".join(chunk.vector for chunk in chunks)), meta

    def freeze(self, ticket_digest: bytes, vector: Raw) -> int:
        """Freezes the upload; returns the bytes sent to other peers in this round so far."""
        chunks = (
            pb.FreezeChunk(ticket_digest=ticket_digest, vector=piece)
            for piece in rpc.pieces(vector)
        )
        return int(
            self._stub.Freeze(chunks, timeout=self._upload_s, metadata=self.metadata).p2p_bytes
        )

    def report(self, *, bytes_in: int, bytes_out: int) -> None:
        """For the peer's own metrics, of which a virtual one has none."""
        if self.simulated:
            return
        request = pb.ReportRequest(bytes_in=bytes_in, bytes_out=bytes_out)
        self._stub.Report(request, timeout=self._call_s, metadata=self.metadata)


class _HubClient(AgentClient):
    simulated = True
    _kept: ClassVar[dict[tuple[str, int], grpc.Channel]] = {}
    # A call may have to wait until a whole round of others has taken place.
    _call_s = _upload_s = _MASKS_S

    def _connect(self, socket: str) -> grpc.Channel:
        # A run that trains once more has another hub, at the same path.
        hub = socket, os.stat(socket).st_ino
        if hub not in self._kept:
            while self._kept:
                self._kept.popitem()[1].close()
            self._kept[hub] = rpc.local_channel(socket)
        return self._kept[hub]

    def _close(self) -> None:
        pass


class AgentRefusal(RemoteError):
    """The agent's refusal, with the text that it gave."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(reason)
        self.args = (text,)
