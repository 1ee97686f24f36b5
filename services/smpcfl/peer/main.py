"""Wires one peer: identity, agent, gRPC, mDNS, the registry, and Flower's SuperNode."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import grpc.aio

from smpc.v1 import local_pb2_grpc, peer_pb2_grpc
from smpc.v1 import registry_pb2 as registry

from .. import enrolment, rpc
from ..config import Settings
from ..directory import Directory
from ..discovery import Discovery
from ..identity import Role
from ..metrics import Metrics
from ..netinfo import own_address
from ..protocol.errors import Reason
from ..protocol.ticket import Policy
from ..supervisor import Child, flower_environment
from ..waiting import wait_for
from .agent import PeerAgent, SerialStore
from .link import PeerLink
from .local import AgentService, socket_path
from .service import PeerService

log = logging.getLogger("smpcfl.peer")
PORT = 9300
HEARTBEAT_S = 2.0


async def serve(settings: Settings, metrics: Metrics, stop: asyncio.Event) -> None:
    """Runs the peer until `stop`; then says goodbye on mDNS and at the registry."""
    own = await enrolment.enrol(settings, Role.PEER)
    directory = Directory(own, settings.registry, settings.state / "roster.bin", metrics)
    policy = Policy(
        modes=settings.secure_modes(),
        min_cohort=settings.min_cohort,
        min_survivors=settings.min_survivors,
        max_complete=settings.max_complete,
        min_degree=settings.min_degree,
    )
    link = PeerLink(own, directory, metrics)
    serials = SerialStore(settings.state / "serial")
    agent = PeerAgent(own, policy, directory.members, serials, link.send, metrics)

    server = rpc.new_server()
    peer_pb2_grpc.add_PeerServicer_to_server(PeerService(own, agent, metrics), server)
    port = settings.port if settings.port else PORT
    port = rpc.bind(server, settings.host, port, own.server_credentials(), "port")
    local = grpc.aio.server()
    local_pb2_grpc.add_AgentServicer_to_server(AgentService(agent, metrics), local)
    socket = socket_path(settings.state / "run")
    local.add_insecure_port(f"unix:{socket}")
    await server.start()
    await local.start()

    host = settings.advertise or own_address(settings.registry)
    discovery = Discovery(settings.mdns, metrics, lambda peer: agent.wake())
    directory.by_mdns = discovery.found
    await discovery.start()
    await discovery.announce(own.name, host, port)
    presence = Presence(directory, f"{host}:{port}", f"{host}:{settings.metrics_port}")
    index = await presence.register(stop)
    log.info("peer %s at %s:%d, data slice %s", own.name, host, port, index)
    tasks = [asyncio.create_task(presence.keep(stop))]
    if index is not None:
        supernode = _supernode(settings, index, str(socket))
        tasks.append(asyncio.create_task(supernode.run(stop)))
    try:
        await stop.wait()
    finally:
        await presence.goodbye()
        await discovery.close()
        await asyncio.gather(*tasks, return_exceptions=True)
        agent.close_round()
        await server.stop(0.5)
        await local.stop(0.5)
        await link.close()
        await directory.close()
        socket.unlink(missing_ok=True)


class Presence:
    """This peer's entry on the registry's roster."""

    def __init__(self, directory: Directory, address: str, metrics_address: str) -> None:
        self._directory = directory
        self._request = registry.RegisterRequest(address=address, metrics_address=metrics_address)

    async def register(self, stop: asyncio.Event) -> int | None:
        """The index of the data slice, once the registry answers; None if stopped before."""
        while not stop.is_set():
            try:
                reply = await self._directory.registry.Register(self._request, timeout=5.0)
                await self._directory.lookup()
                return int(reply.index)
            except grpc.aio.AioRpcError as error:
                log.info("waiting for the registry: %s", error.details())
                await wait_for(stop, 1.0)
        return None

    async def keep(self, stop: asyncio.Event) -> None:
        """Heartbeats; registers again where the registry has forgotten this peer."""
        reachable = True
        while not stop.is_set():
            request = registry.HeartbeatRequest(roster_version=self._directory.version)
            try:
                reply = await self._directory.registry.Heartbeat(request, timeout=5.0)
                self._directory.take(reply)
                if not reachable:
                    log.info("the registry is back")
                reachable = True
            except grpc.aio.AioRpcError as error:
                if rpc.reason_of(error) is Reason.NOT_REGISTERED:
                    await self.register(stop)
                elif reachable:
                    log.warning("no registry (%s): rounds go on without it", error.details())
                    reachable = False
            await wait_for(stop, HEARTBEAT_S)

    async def goodbye(self) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError):
            await self._directory.registry.Goodbye(registry.GoodbyeRequest(), timeout=1.0)


def _supernode(settings: Settings, index: int, socket: str) -> Child:
    home = settings.state / "flower"
    command = [
        "flower-supernode",
        "--root-certificates",
        str(settings.join / "ca.pem"),
        "--superlink",
        settings.aggregator,
        "--host",
        "127.0.0.1",
        "--port",
        str(settings.supernode_port),
        "--node-config",
        f"partition-id={index}",
    ]
    environment = {
        **flower_environment(home),
        "SMPCFL_AGENT": socket,
        "SMPCFL_MODE": settings.mode,
    }
    return Child("SuperNode", command, environment, settings.state / "log" / "supernode.log")
