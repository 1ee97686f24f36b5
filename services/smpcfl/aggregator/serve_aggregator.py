"""Wires the aggregator: identity, Flower's SuperLink, the records, and the training run in hand."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket

import grpc.aio

from smpc.v1 import local_pb2_grpc

from ..base import files
from ..base.config import Settings, cannot_listen
from ..base.host_port import family, near
from ..base.metrics import CONNECTIONS, Metrics
from ..base.state import State
from ..base.waiting import or_stop, until_stop, wait_for
from ..daemons.supervisor import Child, descendants, flower_environment
from ..net import certificates, enrolment
from ..net.certificates import Role
from ..net.directory import Directory
from ..net.wire_bytes import FLOWER, keep_counted, registry_of
from ..reports.live_server import LiveServer
from ..runs import current_run
from .flower_runs import Runs
from .live_feed import LiveFeed
from .rounds_service import RoundsService, read
from .run_keeper import RunKeeper

log = logging.getLogger("smpcfl.aggregator")


async def serve(settings: Settings, metrics: Metrics, stop: asyncio.Event) -> None:
    """Runs the aggregator until `stop`."""
    state = State(settings.state)
    files.check(settings.state, files.AGGREGATOR_BYTES)
    _check_port(settings)
    socket_path = files.socket_path(settings.state, "rounds")
    found = current_run.load(state.current_run)
    if found is None:
        metrics.rounds_left.set(settings.rounds)
    # The ServerApp and `smpcfl run` call it here as well.
    hosts = ["aggregator", "localhost", "127.0.0.1", "::1", socket.gethostname()]
    hosts += filter(None, [near(settings.host), settings.certificate_host()])
    own = await or_stop(stop, enrolment.enrol(settings, Role.AGGREGATOR, hosts))
    if own is None:
        return
    files.write_private(state.ca, certificates.pem(own.ca), mode=0o644)
    directory = Directory(own, settings.registry, state.roster, metrics)

    local = grpc.aio.server()
    live = LiveFeed(settings.mode, read(state.records), directory)
    page = None
    if settings.page_port:
        page = LiveServer(live.runs.source(), settings.page_host, settings.page_port)
    service = RoundsService(state.records, metrics, live.hear)
    local_pb2_grpc.add_RoundsServicer_to_server(service, local)
    local.add_insecure_port(f"unix:{socket_path}")
    await local.start()
    socket_path.chmod(0o600)

    runs = Runs(settings.state, settings.superlink_port, near(settings.host))
    superlink = _superlink(settings)
    keeper = RunKeeper(settings, metrics, directory, runs, lambda: superlink.starts)
    work = [
        superlink.run(stop),
        keeper.run(stop),
        _watch_roster(directory, stop),
        enrolment.keep_renewed(own, settings, directory, metrics, stop, hosts),
        keep_counted(
            metrics,
            stop,
            CONNECTIONS,  # those to peers are the ServerApp's, which reports them
            listening={settings.superlink_port: FLOWER},
            dialled=lambda: registry_of(settings),
            # The ServerApp calls the SuperLink at the same port as the SuperNodes.
            inside=lambda: descendants(os.getpid()),
        ),
    ]
    if page is not None:
        log.info("live page: %s", page.url)
        work.append(live.serve(own, page, stop))
    tasks = [asyncio.create_task(item) for item in work]
    try:
        await until_stop(stop, tasks)
    finally:
        await asyncio.gather(*tasks, return_exceptions=True)
        await local.stop(0.5)
        await directory.close()
        socket_path.unlink(missing_ok=True)


def _check_port(settings: Settings) -> None:
    """Flower would say this in its own log only, and be started again and again."""
    with socket.socket(family(settings.host)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.superlink_port))
        except OSError as error:
            raise cannot_listen(
                settings.host, settings.superlink_port, "superlink-port", error
            ) from error


def _superlink(settings: Settings) -> Child:
    state = State(settings.state.resolve())
    state.results.mkdir(parents=True, exist_ok=True)
    command = ["flower-superlink", "--host", settings.host, "--port", str(settings.superlink_port)]
    command += ["--ssl-certfile", str(state.certificate)]
    command += ["--ssl-keyfile", str(state.key)]
    command += ["--ssl-ca-certfile", str(state.ca)]
    command += ["--database", str(state.superlink)]
    command += ["--enable-supernode-auth"]
    command += ["--disable-runtime-dependency-installation"]
    environment = {
        **flower_environment(state.flower),
        "SMPCFL_MODE": settings.mode,
        "SMPCFL_LOG_FORMAT": settings.log_format,
        "SMPCFL_AGGREGATOR_STATE": str(state.path),
        "SMPCFL_MIN_PEERS": str(settings.min_peers),
        "SMPCFL_REGISTRY": settings.registry,
        "SMPCFL_KEEP_SEEN": settings.keep_seen,
    }
    log_path = state.log("superlink")
    return Child("SuperLink", command, environment, log_path, folder=state.results)


async def _watch_roster(directory: Directory, stop: asyncio.Event) -> None:
    """The registry learns our certificate from this, and passes it on to the peers."""
    while not stop.is_set():
        with contextlib.suppress(grpc.aio.AioRpcError):
            await directory.lookup()
        await wait_for(stop, 2.0)
