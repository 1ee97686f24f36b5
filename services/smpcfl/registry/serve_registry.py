"""Wires the registry: authority, roster, its two gRPC servers, and the page for Prometheus."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

from smpc.v1 import registry_pb2_grpc as pb_grpc

from ..base.config import Settings
from ..base.log_events import LogEvent, about
from ..base.metrics import Metrics
from ..base.state import AuthorityFolder, State
from ..base.waiting import wait_for
from ..net import certificates, rpc
from ..net.certificates import Identity
from ..net.mdns import Discovery
from ..net.wire_bytes import REGISTRY, keep_counted
from ..protocol.errors import ProtocolError
from .authority import Authority
from .draws import Draws
from .registry_service import EnrolmentService, RegistryService
from .roster import Roster
from .targets import serve_targets

log = logging.getLogger("smpcfl.registry")
PORT = 9200
_HOSTS = ("registry", "localhost", "127.0.0.1")


async def serve(settings: Settings, metrics: Metrics, stop: asyncio.Event) -> None:
    """Runs the registry until `stop`."""
    authority = Authority(
        settings.state,
        settings.join,
        given=AuthorityFolder.given(settings.authority),
        certificate_s=settings.certificate_hours * 3600.0,
        token_s=settings.token_hours * 3600.0,
        token_peers=settings.token_peers,
    )
    own = authority.own_identity(_HOSTS)
    roster = Roster(State(settings.state).indices, int(time.time() * 1000))
    roster.revoke(authority.claims.revoked())
    roster_server, enrolment_server = rpc.new_server(), rpc.new_server()
    draws = Draws(settings.state, authority.key, authority.certificate, settings.group_size)
    service = RegistryService(own, authority, roster, draws, metrics)
    pb_grpc.add_RegistryServicer_to_server(service, roster_server)
    pb_grpc.add_EnrolmentServicer_to_server(EnrolmentService(authority, metrics), enrolment_server)
    port = rpc.bind(
        roster_server, settings.host, settings.port or PORT, own.server_credentials(), "port"
    )
    enrolment_port = rpc.bind(
        enrolment_server,
        settings.host,
        settings.enrolment_port,
        own.server_credentials(mutual=False),
        "enrolment-port",
    )
    page = serve_targets(settings.host, settings.targets_port, roster)
    discovery = Discovery(settings.mdns, metrics)
    await roster_server.start()
    await enrolment_server.start()
    await discovery.start()
    ports = {port: REGISTRY, enrolment_port: REGISTRY}
    counting = asyncio.create_task(keep_counted(metrics, stop, (REGISTRY,), listening=ports))
    log.info(
        "registry on port %d, enrolment on port %d",
        port,
        enrolment_port,
        extra=about(LogEvent.SERVICE_READY),
    )
    try:
        while not stop.is_set():
            roster.seen_by_mdns(set(discovery.found))
            living = [entry.peer for entry in roster.entries(time.monotonic())]
            metrics.roster_peers.set(len(living))
            _keep(authority, own, roster, metrics)
            _draw(draws, authority, roster, living)
            await wait_for(stop, 1.0)
    finally:
        page.shutdown()
        page.server_close()
        await discovery.close()
        await enrolment_server.stop(1.0)
        await roster_server.stop(1.0)
        stop.set()
        await counting


def _keep(authority: Authority, own: Identity, roster: Roster, metrics: Metrics) -> None:
    """What time and `smpcfl revoke` change: certificate, tokens, who is revoked."""
    try:
        for name in roster.revoke(authority.claims.revoked()):
            log.warning("peer %s is revoked", name, extra=about(LogEvent.REVOKED, peer=name))
        authority.keep_tokens()
        if certificates.now() >= certificates.renewal(own.certificate):
            authority.renew_own(own, _HOSTS)
            roster.version += 1
    except (OSError, ProtocolError) as error:
        log.warning(
            "cannot keep tokens and certificates: %s", error, extra=about(LogEvent.STORAGE_FAILED)
        )
    metrics.certificate_expiry.set(own.certificate.not_valid_after_utc.timestamp())


def _draw(draws: Draws, authority: Authority, roster: Roster, living: Sequence[str]) -> None:
    try:
        if draws.keep(living, authority.enrolled):
            roster.version += 1  # everyone hears of it with the next heartbeat
    except (OSError, ProtocolError) as error:
        log.error("cannot draw: %s", error, extra=about(LogEvent.NOT_DRAWN))
