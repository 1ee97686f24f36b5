"""One peer as `smpcfl peer` wires it, without mDNS, the registry's roster and Flower.

Only the clock is not the real one: it can skip, so that deadlines pass without anyone waiting for them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import grpc.aio
from prometheus_client import CollectorRegistry

from smpc.v1 import local_pb2_grpc
from smpcfl.base import files
from smpcfl.base.metrics import Metrics
from smpcfl.net.callers import Callers
from smpcfl.net.certificates import Identity
from smpcfl.peer.agent import CallFailed
from smpcfl.peer.peer import Peer
from smpcfl.protocol.errors import Reason
from smpcfl.protocol.messages import Call, PeerMessage
from support.network import POLICY

LOOPBACK = "127.0.0.1"
NOWHERE = f"{LOOPBACK}:1"
APPS = {1: bytes([7]) * 32, 2: bytes([8]) * 32}  # by Flower run


class Clock:
    """Seconds, for all agents together."""

    skipped = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.skipped


class DeployedPeer(Peer):
    """`app` calls it as its ClientApp does. `cut`: whom which messages do not reach."""

    app: local_pb2_grpc.AgentStub

    def __init__(
        self, own: Identity, folder: Path, clock: Clock, callers: Callers | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.metrics = Metrics("seeded", CollectorRegistry())
        super().__init__(
            own, folder, NOWHERE, POLICY, self.metrics, APPS.get, clock=clock, callers=callers
        )
        self.cut: set[tuple[str, type]] = set()
        self.agent._send = self._send
        self._folder = folder

    async def _send(self, call: Call, count: Callable[[int], None]) -> PeerMessage | None:
        if (call.to, type(call.message)) in self.cut:
            raise CallFailed("cut")
        return await self.link.send(call, count)

    async def serve(self) -> None:
        socket = files.socket_path(self._folder, "agent")
        self.address = f"{LOOPBACK}:{await self.start(LOOPBACK, 0, socket)}"
        self._app = grpc.aio.insecure_channel(f"unix:{socket}")
        self.app = local_pb2_grpc.AgentStub(self._app)

    async def stop(self, grace_s: float = 0.0) -> None:
        await self._app.close()
        await super().stop(grace_s)

    def rejected(self, reason: Reason) -> int:
        """Messages and calls, for this reason."""
        labels = {"mode": "seeded", "reason": reason.value}
        return int(self.metrics.registry.get_sample_value("smpcfl_rejected_total", labels) or 0)
