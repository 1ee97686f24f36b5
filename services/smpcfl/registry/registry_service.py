"""The registry's gRPC services, and the HTTP page that lists for Prometheus whom to scrape."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from smpc.v1 import registry_pb2 as pb
from smpc.v1 import registry_pb2_grpc as pb_grpc

from ..base import files
from ..base.config import Settings, cannot_listen, is_port
from ..base.metrics import Metrics
from ..base.state import State
from ..base.waiting import wait_for
from ..net import certificates, rpc
from ..net.callers import Callers
from ..net.certificates import Identity, Role
from ..net.mdns import Discovery
from ..net.rpc import Context
from ..protocol.errors import ProtocolError, Reason, RemoteError
from .authority import Authority
from .failed_enrolments import FailedEnrolments
from .roster import Roster

log = logging.getLogger("smpcfl.registry")
PORT = 9200
_HOSTS = ("registry", "localhost", "127.0.0.1")


class EnrolmentService(pb_grpc.EnrolmentServicer):
    def __init__(
        self, authority: Authority, metrics: Metrics, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._authority = authority
        self._failed = FailedEnrolments()
        self._clock = clock
        self.Enrol = rpc.handler("Enrol", metrics, on_refusal=_warn)(self._enrol)

    async def _enrol(self, request: pb.EnrolRequest, context: Context) -> pb.EnrolReply:
        host, now = rpc.host_of(context), self._clock()
        try:
            certificate = self._authority.enrol(
                request.token, request.csr, request.role, request.name
            )
        except RemoteError as error:
            # Whoever has a good token is heard, also from behind the address of somebody who guesses.
            if wait := self._failed.wait_s(host, now):
                raise RemoteError(
                    Reason.RATE_LIMITED,
                    f"{host} failed too often: wait {wait:.0f} s",
                    peer=request.name,
                ) from error
            self._failed.add(host, now)
            raise
        log.info("enrolled %s %s", request.role, request.name)
        return pb.EnrolReply(certificate=certificates.der(certificate))


class RegistryService(pb_grpc.RegistryServicer):
    def __init__(
        self,
        own: Identity,
        authority: Authority,
        roster: Roster,
        metrics: Metrics,
        callers: Callers | None = None,
    ) -> None:
        self._own = own
        self._authority = authority
        self._roster = roster
        self._metrics = metrics
        limited = partial(
            rpc.handler, metrics=metrics, on_refusal=_warn, callers=callers or Callers()
        )
        for name in ("Register", "Heartbeat", "Lookup", "Goodbye", "Renew"):
            method = self._standing(getattr(self, f"_{name.lower()}"))
            setattr(self, name, limited(name)(method))

    def _standing(self, method: Any) -> Any:
        """For callers who are not revoked."""

        async def call(request: Any, context: Context) -> Any:
            rpc.check_standing(context, self._roster.revoked)
            return await method(request, context)

        return call

    async def _register(self, request: pb.RegisterRequest, context: Context) -> pb.RegisterReply:
        peer = await rpc.require(context, Role.PEER)
        for address in (request.address, request.metrics_address):
            host, _, port = address.rpartition(":")
            if not host or not is_port(port) or len(address) > 255:
                raise RemoteError(Reason.MALFORMED, "address", peer=peer, found=address[:255])
        # Prometheus asks there: else a peer could have it ask any machine that it reaches.
        host, found = (
            item.rpartition(":")[0] for item in (request.address, request.metrics_address)
        )
        if found != host:
            raise RemoteError(
                Reason.MALFORMED, "host of the metrics", peer=peer, expected=host, found=found
            )
        certificate = rpc.caller_certificate(context)
        index = self._roster.register(
            peer, request.address, request.metrics_address, certificate, time.monotonic()
        )
        log.info("peer %s is at %s, data slice %d", peer, request.address, index)
        return pb.RegisterReply(index=index)

    async def _heartbeat(self, request: pb.HeartbeatRequest, context: Context) -> pb.Roster:
        peer = await rpc.require(context, Role.PEER)
        if not self._roster.heartbeat(peer, time.monotonic()):
            raise RemoteError(Reason.NOT_REGISTERED, peer=peer)
        if request.roster_version == self._roster.version:
            return pb.Roster(version=self._roster.version, unchanged=True)
        return self._whole()

    async def _lookup(self, request: pb.LookupRequest, context: Context) -> pb.Roster:
        role, _ = rpc.caller(context)
        if role is Role.AGGREGATOR:
            self._roster.take_aggregator(rpc.caller_certificate(context))
        return self._whole()

    async def _goodbye(self, request: pb.GoodbyeRequest, context: Context) -> pb.GoodbyeReply:
        peer = await rpc.require(context, Role.PEER)
        self._roster.remove(peer)
        log.info("peer %s has left", peer)
        return pb.GoodbyeReply()

    async def _renew(self, request: pb.RenewRequest, context: Context) -> pb.EnrolReply:
        role, name = rpc.caller(context)
        certificate = certificates.der(
            self._authority.renew(rpc.caller_certificate(context), request.csr)
        )
        # Passed on now: the caller's connection goes on with the certificate that it was made with.
        if role is Role.PEER:
            self._roster.renew(name, certificate)
        else:
            self._roster.take_aggregator(certificate)
        log.info("renewed the certificate of %s %s", role, name)
        return pb.EnrolReply(certificate=certificate)

    def _whole(self) -> pb.Roster:
        entries = self._roster.entries(time.monotonic())
        self._metrics.roster_peers.set(len(entries))
        return pb.Roster(
            version=self._roster.version,
            entries=[
                pb.Entry(
                    peer=entry.peer,
                    address=entry.address,
                    certificate=entry.certificate,
                    index=entry.index,
                    mdns=entry.mdns,
                )
                for entry in entries
            ],
            aggregator_certificate=self._roster.aggregator_certificate,
            registry_certificate=certificates.der(self._own.certificate),
            revoked=sorted(self._roster.revoked),
        )


def targets(roster: Roster) -> bytes:
    """Prometheus' HTTP service discovery: every living replica."""
    groups = [
        {"targets": [entry.metrics_address], "labels": {"peer": entry.peer}}
        for entry in roster.entries(time.monotonic())
    ]
    return json.dumps(groups).encode()


def serve_targets(host: str, port: int, roster: Roster) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path == "/targets"
            body = targets(roster) if known else b"see /targets\n"
            self.send_response(200 if known else 404)
            self.send_header("Content-Type", "application/json" if known else "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        raise cannot_listen(host, port, "targets-port", error) from error
    Thread(target=server.serve_forever, daemon=True).start()
    return server


async def serve(settings: Settings, metrics: Metrics, stop: asyncio.Event) -> None:
    """Runs the registry until `stop`."""
    for role in (Role.PEER, Role.AGGREGATOR):
        files.check(settings.join / role, files.LEAST_BYTES, "join")
    authority = Authority(
        settings.state,
        settings.join,
        certificate_s=settings.certificate_hours * 3600.0,
        token_s=settings.token_hours * 3600.0,
        token_peers=settings.token_peers,
    )
    own = authority.own_identity(_HOSTS)
    roster = Roster(State(settings.state).indices, int(time.time() * 1000))
    roster.revoke(authority.claims.revoked())
    roster_server, enrolment_server = rpc.new_server(), rpc.new_server()
    service = RegistryService(own, authority, roster, metrics)
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
    log.info("registry on port %d, enrolment on port %d", port, enrolment_port)
    try:
        while not stop.is_set():
            roster.seen_by_mdns(set(discovery.found))
            metrics.roster_peers.set(len(roster.entries(time.monotonic())))
            _keep(authority, own, roster, metrics)
            await wait_for(stop, 1.0)
    finally:
        page.shutdown()
        page.server_close()
        await discovery.close()
        await enrolment_server.stop(1.0)
        await roster_server.stop(1.0)


def _keep(authority: Authority, own: Identity, roster: Roster, metrics: Metrics) -> None:
    """What time and `smpcfl revoke` change: certificate, tokens, who is revoked."""
    try:
        for name in roster.revoke(authority.claims.revoked()):
            log.warning("peer %s is revoked", name)
        authority.keep_tokens()
        if certificates.now() >= certificates.renewal(own.certificate):
            authority.renew_own(own, _HOSTS)
            roster.version += 1
    except (OSError, ProtocolError) as error:
        log.warning("cannot keep tokens and certificates: %s", error)
    metrics.certificate_expiry.set(own.certificate.not_valid_after_utc.timestamp())


def _warn(error: RemoteError) -> None:
    log.warning("refused: %s", error)
