"""One peer, wired: whom it knows, its agent, and what it serves to peers, aggregator and ClientApp."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import grpc.aio

from smpc.v1 import local_pb2_grpc, peer_pb2_grpc

from ..base.ledger_file import open_ledger
from ..base.metrics import Metrics
from ..base.state import State
from ..net import rpc
from ..net.callers import Callers
from ..net.certificates import Identity
from ..net.directory import Directory
from ..net.kept_draw import KeptDraw
from ..protocol.policy import Policy
from .agent import PeerAgent
from .agent_service import AgentService
from .floors import Floors
from .peer_draws import PeerDraws
from .peer_link import PeerLink
from .peer_service import PeerService
from .serial_store import SerialStore
from .traffic import Traffic


class Peer:
    """All of a peer but how others find it and Flower's SuperNode.

    `state`: its folder, which exists. `registry`: the registry's address. `callers`: what one caller may ask,
    by default as much as a round takes. `app_of` and `given_seed` are AgentService's.
    """

    def __init__(
        self,
        own: Identity,
        state: Path,
        registry: str,
        policy: Policy,
        metrics: Metrics,
        app_of: Callable[[int], bytes | None],
        *,
        given_seed: bool = False,
        clock: Callable[[], float] = time.monotonic,
        callers: Callers | None = None,
    ) -> None:
        self.own = own
        paths = State(state)
        self.directory = Directory(own, registry, paths.roster, metrics)
        self.members = self.directory.members
        traffic = Traffic(metrics)
        self.link = PeerLink(own, self.directory, metrics, traffic)
        self.draws = PeerDraws(own, KeptDraw(paths.draw, own.ca), self.directory, metrics)
        serials, ledger = SerialStore(paths.serial), open_ledger(paths.ledger)
        self.agent = PeerAgent(
            own,
            policy,
            self.members,
            serials,
            ledger,
            self.link.send,
            metrics,
            clock,
            Floors(paths.floors),
            self.draws,
            traffic,
        )
        self.service = PeerService(own, self.agent, self.members, metrics, callers)
        self.server = rpc.new_server()
        peer_pb2_grpc.add_PeerServicer_to_server(self.service, self.server)
        self.local = grpc.aio.server()
        local_pb2_grpc.add_AgentServicer_to_server(
            AgentService(self.agent, metrics, app_of, given_seed=given_seed), self.local
        )
        self._socket: Path | None = None

    async def start(self, host: str, port: int, socket: Path) -> int:
        """Serves peers and aggregator at `host`, and its ClientApp on the Unix `socket`.

        Returns the port, a free one for 0. PortInUse or ConfigError if it cannot listen there.
        """
        port = rpc.bind(self.server, host, port, self.own.server_credentials(), "port")
        self.local.add_insecure_port(f"unix:{socket}")
        await self.server.start()
        await self.local.start()
        socket.chmod(0o600)
        self._socket = socket
        return port

    async def stop(self, grace_s: float = 0.5) -> None:
        """Closes the open round and all connections; calls under way have `grace_s` to end."""
        self.agent.close_round()
        await self.server.stop(grace_s)
        await self.local.stop(grace_s)
        await self.link.close()
        await self.directory.close()
        if self._socket is not None:
            self._socket.unlink(missing_ok=True)
