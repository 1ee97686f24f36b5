"""Wires the aggregator: identity, Flower's SuperLink, the records, and the first training run."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket

import grpc.aio

from smpc.v1 import local_pb2_grpc

from .. import enrolment, identity
from ..config import PortInUse, Settings
from ..directory import Directory
from ..identity import Role
from ..metrics import Metrics
from ..protocol.errors import LocalError
from ..supervisor import Child, flower_environment
from ..waiting import wait_for
from .rounds import RoundsService, records_path
from .runs import APP, Runs

log = logging.getLogger("smpcfl.aggregator")
_SETTLE_S = 4.0


async def serve(settings: Settings, metrics: Metrics, stop: asyncio.Event) -> None:
    """Runs the aggregator until `stop`."""
    _check_port(settings)
    hosts = ["aggregator", "localhost", "127.0.0.1", socket.gethostname()]
    hosts += [settings.advertise] if settings.advertise else []
    own = await enrolment.enrol(settings, Role.AGGREGATOR, hosts)
    identity.write_private(settings.state / "ca.pem", identity.pem(own.ca), 0o644)
    directory = Directory(own, settings.registry, settings.state / "roster.bin", metrics)

    socket_path = settings.state / "run" / "rounds.sock"
    socket_path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    socket_path.unlink(missing_ok=True)
    local = grpc.aio.server()
    service = RoundsService(records_path(settings.state), metrics)
    local_pb2_grpc.add_RoundsServicer_to_server(service, local)
    local.add_insecure_port(f"unix:{socket_path}")
    await local.start()

    tasks = [asyncio.create_task(_superlink(settings).run(stop))]
    runs = Runs(settings.state, settings.superlink_port)
    if settings.rounds:
        metrics.rounds_left.set(settings.rounds)
        tasks.append(asyncio.create_task(_first_run(settings, directory, runs, stop)))
    watch = asyncio.create_task(_watch_roster(directory, stop))
    try:
        await stop.wait()
    finally:
        await asyncio.gather(*tasks, watch, return_exceptions=True)
        await local.stop(0.5)
        await directory.close()
        socket_path.unlink(missing_ok=True)


def _check_port(settings: Settings) -> None:
    """Flower would say this in its own log only, and be started again and again."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.superlink_port))
        except OSError as error:
            raise PortInUse(settings.host, settings.superlink_port, "superlink-port") from error


def _superlink(settings: Settings) -> Child:
    state = settings.state
    command = ["flower-superlink", "--host", settings.host, "--port", str(settings.superlink_port)]
    command += ["--ssl-certfile", str(state / "certificate.pem")]
    command += ["--ssl-keyfile", str(state / "key.pem")]
    command += ["--ssl-ca-certfile", str(state / "ca.pem")]
    command += ["--database", str(state / "superlink.db")]
    command += ["--disable-runtime-dependency-installation"]
    environment = {
        **flower_environment(state / "flower"),
        "SMPCFL_MODE": settings.mode,
        "SMPCFL_AGGREGATOR_STATE": str(state.resolve()),
        "SMPCFL_REGISTRY": settings.registry,
    }
    return Child("SuperLink", command, environment, state / "log" / "superlink.log")


async def _watch_roster(directory: Directory, stop: asyncio.Event) -> None:
    """The registry learns our certificate from this, and passes it on to the peers."""
    while not stop.is_set():
        with contextlib.suppress(grpc.aio.AioRpcError):
            await directory.lookup()
        await wait_for(stop, 2.0)


async def _first_run(
    settings: Settings, directory: Directory, runs: Runs, stop: asyncio.Event
) -> None:
    """Waits until enough peers are there and no more come, then trains."""
    peers = await _settled_peers(settings, directory, stop)
    if stop.is_set():
        return
    log.info("%d peers are there", peers)
    while not stop.is_set():
        try:
            run_id = await runs.start(APP, run_config(settings, settings.rounds, peers))
            log.info("Flower run %s is submitted", run_id)
            await _follow(runs, run_id, stop)
            return
        except LocalError as error:
            log.info("waiting for the SuperLink: %s", error)
            await wait_for(stop, 2.0)


async def _follow(runs: Runs, run_id: str, stop: asyncio.Event) -> None:
    """Says how the run ended; a failed one with the ServerApp's last words."""
    while not stop.is_set():
        await wait_for(stop, 5.0)
        status = await runs.status(run_id)
        if status == "finished:completed":
            log.info("run %s is complete; start another with `smpcfl run`", run_id)
            return
        if status.startswith("finished"):
            log.error("run %s: %s\n%s", run_id, status, await runs.last_words(run_id))
            return


def run_config(settings: Settings, rounds: int, peers: int) -> dict[str, int | str]:
    return {
        "num-rounds": rounds,
        "seed": settings.seed,
        "min-peers": settings.min_peers,
        "expected-peers": max(peers, settings.min_peers),
    }


async def _settled_peers(settings: Settings, directory: Directory, stop: asyncio.Event) -> int:
    last, since, loop = -1, 0.0, asyncio.get_running_loop()
    while not stop.is_set():
        peers = len(directory.by_registry)
        if peers != last:
            log.info("waiting for peers: %d of at least %d are there", peers, settings.min_peers)
            last, since = peers, loop.time()
        if peers >= settings.min_peers and loop.time() - since >= _SETTLE_S:
            return peers
        await wait_for(stop, 0.5)
    return 0
