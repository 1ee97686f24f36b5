"""Serves one peer: enrols it, lets others find it by mDNS and the registry, and runs Flower's SuperNode."""

from __future__ import annotations

import asyncio
import logging
import os
from functools import partial

from ..base import files, node_config
from ..base.config import Settings
from ..base.log_events import LogEvent, about
from ..base.metrics import CONNECTIONS, Metrics
from ..base.state import JoinFolder, State
from ..base.waiting import or_stop, until_stop
from ..daemons import node_key, run_apps
from ..daemons.supervisor import Child, descendants, flower_environment
from ..net import certificates, enrolment
from ..net.certificates import Identity, Role
from ..net.mdns import Discovery
from ..net.wire_bytes import FLOWER, PEER, keep_counted, peers_of, port_of, registry_of
from ..protocol.policy import Policy
from .peer import Peer
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
    pinned = settings.pinned()
    if pinned:
        log.info("cohorts of these peers alone: %s", ", ".join(pinned))
    policy = Policy(
        modes=settings.secure_modes(),
        min_cohort=settings.min_cohort,
        min_survivors=settings.min_survivors,
        members=frozenset(pinned),
        tickets_per_hour=settings.tickets_per_hour,
        max_configurations=settings.configurations,
        weighted_by=() if settings.weighted_by == "any" else tuple(settings.weighted_by.split(",")),
    )
    peer = Peer(
        own,
        settings.state,
        settings.registry,
        policy,
        metrics,
        partial(run_apps.app_of_run, state.run_apps),
        given_seed=settings.given_seed == "on",
    )
    peer.members.pinned = pinned
    directory = peer.directory
    port = await peer.start(settings.host, settings.port if settings.port else PORT, socket)

    discovery = Discovery(settings.mdns, metrics, lambda name: peer.agent.wake())
    directory.by_mdns = discovery.found
    await discovery.start()
    presence = Presence(settings, own.name, port, directory, discovery, peer.draws)
    tasks: list[asyncio.Task[None]] = []
    try:
        await presence.announce()
        index = await or_stop(stop, presence.register(stop))
        log.info(
            "peer %s at %s, data slice %s",
            own.name,
            presence.address,
            # As its ClientApp finds it.
            node_config.parse(settings.node_config).get(node_config.INDEX, index),
            extra=about(LogEvent.SERVICE_READY, peer=own.name),
        )
        log.info("fingerprint of its key: %s", certificates.fingerprint(own.key.public_key()))
        tasks.append(asyncio.create_task(presence.keep(stop)))
        renewing = enrolment.keep_renewed(own, settings, directory, metrics, stop)
        tasks.append(asyncio.create_task(renewing))
        tasks.append(asyncio.create_task(_count_wire_bytes(settings, metrics, peer, port, stop)))
        if index is not None:
            supernode = _supernode(settings, own, index, str(socket))
            tasks.append(asyncio.create_task(supernode.run(stop)))
        await until_stop(stop, tasks)
    finally:
        stop.set()
        await presence.goodbye()
        await asyncio.gather(*tasks, return_exceptions=True)
        await peer.stop()


async def _count_wire_bytes(
    settings: Settings, metrics: Metrics, peer: Peer, port: int, stop: asyncio.Event
) -> None:
    """What the SuperNode and its ClientApp tell one another is not on their list."""

    def dialled() -> dict[int, str]:
        superlink = {port_of(settings.aggregator): FLOWER}
        return peers_of(peer.directory) | superlink | registry_of(settings)

    def processes() -> list[int]:
        return [os.getpid(), *descendants(os.getpid())]

    await keep_counted(
        metrics, stop, CONNECTIONS, listening={port: PEER}, dialled=dialled, dialling=processes
    )


def _supernode(settings: Settings, own: Identity, index: int, socket: str) -> Child:
    state = State(settings.state)
    given = node_config.parse(settings.node_config)
    configured = node_config.write(state.node_config, {node_config.INDEX: index, **given})
    command = [
        "flower-supernode",
        "--root-certificates",
        str(JoinFolder(settings.join).ca),
        "--superlink",
        settings.aggregator,
        "--auth-supernode-private-key",
        str(state.node_key),
        "--host",
        "127.0.0.1",
        "--port",
        str(settings.supernode_port),
        "--node-config",
        str(configured),
    ]
    environment = {
        **flower_environment(state.flower),
        "SMPCFL_AGENT": socket,
        "SMPCFL_MODE": settings.mode,
        "SMPCFL_LOG_FORMAT": settings.log_format,
        "SMPCFL_APPS": settings.apps,
        "SMPCFL_RUN_APPS": str(state.run_apps),
        "SMPCFL_PEER_STATE": str(settings.state),
    }
    return Child(
        "SuperNode",
        command,
        environment,
        state.log("supernode"),
        before=lambda stop: node_key.register(own, settings.aggregator, state.node_key, stop),
    )
