"""Wires one peer: identity, agent, gRPC, mDNS, the registry, and Flower's SuperNode."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

import grpc.aio

from smpc.v1 import local_pb2_grpc, peer_pb2_grpc

from ..base import files
from ..base.config import Settings
from ..base.ledger_file import open_ledger
from ..base.metrics import Metrics
from ..base.state import State
from ..base.waiting import or_stop, until_stop
from ..daemons import node_key, run_apps
from ..daemons.supervisor import Child, flower_environment
from ..net import certificates, enrolment, rpc
from ..net.certificates import Identity, Role
from ..net.directory import Directory
from ..net.mdns import Discovery
from ..protocol.policy import Policy
from .agent import PeerAgent, SerialStore
from .agent_service import AgentService
from .peer_link import PeerLink
from .peer_service import PeerService
from .presence import Presence

log = logging.getLogger("smpcfl.peer")
PORT = 9300


async def serve(settings: Settings, metrics: Metrics, stop: asyncio.Event) -> None:
    """Runs the peer until `stop`; then says goodbye on mDNS and at the registry."""
    state = State(settings.state)
    socket = files.socket_path(settings.state, "agent")
    own = await or_stop(stop, enrolment.enrol(settings, Role.PEER))
    if own is None:
        return
    directory = Directory(own, settings.registry, state.roster, metrics)
    directory.members.pinned = settings.pinned()
    if directory.members.pinned:
        log.info("cohorts of these peers alone: %s", ", ".join(directory.members.pinned))
    policy = Policy(
        modes=settings.secure_modes(),
        min_cohort=settings.min_cohort,
        min_survivors=settings.min_survivors,
        members=frozenset(directory.members.pinned),
        tickets_per_hour=settings.tickets_per_hour,
        max_configurations=settings.configurations,
    )
    link = PeerLink(own, directory, metrics)
    serials = SerialStore(state.serial)
    ledger = open_ledger(state.ledger)
    agent = PeerAgent(own, policy, directory.members, serials, ledger, link.send, metrics)

    server = rpc.new_server()
    peer_pb2_grpc.add_PeerServicer_to_server(
        PeerService(own, agent, directory.members, metrics), server
    )
    port = settings.port if settings.port else PORT
    port = rpc.bind(server, settings.host, port, own.server_credentials(), "port")
    local = grpc.aio.server()
    local_pb2_grpc.add_AgentServicer_to_server(
        AgentService(
            agent,
            metrics,
            partial(run_apps.app_of_run, state.run_apps),
            given_seed=settings.given_seed == "on",
        ),
        local,
    )
    local.add_insecure_port(f"unix:{socket}")
    await server.start()
    await local.start()
    socket.chmod(0o600)

    discovery = Discovery(settings.mdns, metrics, lambda peer: agent.wake())
    directory.by_mdns = discovery.found
    await discovery.start()
    presence = Presence(settings, own.name, port, directory, discovery)
    tasks: list[asyncio.Task[None]] = []
    try:
        await presence.announce()
        index = await or_stop(stop, presence.register(stop))
        log.info("peer %s at %s:%d, data slice %s", own.name, presence.host, port, index)
        log.info("fingerprint of its key: %s", certificates.fingerprint(own.key.public_key()))
        tasks.append(asyncio.create_task(presence.keep(stop)))
        renewing = enrolment.keep_renewed(own, settings, directory, metrics, stop)
        tasks.append(asyncio.create_task(renewing))
        if index is not None:
            supernode = _supernode(settings, own, index, str(socket))
            tasks.append(asyncio.create_task(supernode.run(stop)))
        await until_stop(stop, tasks)
    finally:
        stop.set()
        await presence.goodbye()
        await asyncio.gather(*tasks, return_exceptions=True)
        agent.close_round()
        await server.stop(0.5)
        await local.stop(0.5)
        await link.close()
        await directory.close()
        socket.unlink(missing_ok=True)


def _supernode(settings: Settings, own: Identity, index: int, socket: str) -> Child:
    state = State(settings.state)
    command = [
        "flower-supernode",
        "--root-certificates",
        str(settings.join / "ca.pem"),
        "--superlink",
        settings.aggregator,
        "--auth-supernode-private-key",
        str(state.node_key),
        "--host",
        "127.0.0.1",
        "--port",
        str(settings.supernode_port),
        "--node-config",
        f"partition-id={index}",
    ]
    environment = {
        **flower_environment(state.flower),
        "SMPCFL_AGENT": socket,
        "SMPCFL_MODE": settings.mode,
        "SMPCFL_APPS": settings.apps,
        "SMPCFL_RUN_APPS": str(state.run_apps),
    }
    return Child(
        "SuperNode",
        command,
        environment,
        state.log("supernode"),
        before=lambda stop: node_key.register(own, settings.aggregator, state.node_key, stop),
    )
