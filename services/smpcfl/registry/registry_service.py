"""The registry's gRPC services: enrolment, and the roster."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from smpc.v1 import registry_pb2 as pb
from smpc.v1 import registry_pb2_grpc as pb_grpc

from .. import __version__
from ..base import host_port
from ..base.log_events import LogEvent, about
from ..base.metrics import Metrics
from ..net import certificates, rpc
from ..net.callers import Callers
from ..net.certificates import Identity, Role
from ..net.rpc import Context
from ..protocol.errors import Reason, RemoteError
from .authority import Authority
from .draws import Draws
from .failed_enrolments import FailedEnrolments
from .roster import Roster

log = logging.getLogger("smpcfl.registry")
_LONGEST_VERSION = 40  # of what a peer says of itself, and all others are told


class EnrolmentService(pb_grpc.EnrolmentServicer):
    def __init__(
        self, authority: Authority, metrics: Metrics, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._authority = authority
        self._failed = FailedEnrolments()
        self._clock = clock
        self.Enrol = rpc.handler("Enrol", metrics, on_refusal=_warn)(self._enrol)
        self.CheckToken = rpc.handler("CheckToken", metrics, on_refusal=_warn)(self._check_token)

    async def _enrol(self, request: pb.EnrolRequest, context: Context) -> pb.EnrolReply:
        with self._counting_failures(request.name, context):
            certificate = self._authority.enrol(
                request.token, request.csr, request.role, request.name
            )
        log.info(
            "enrolled %s %s",
            request.role,
            request.name,
            extra=about(LogEvent.ENROLLED, peer=request.name),
        )
        return pb.EnrolReply(certificate=certificates.der(certificate))

    async def _check_token(
        self, request: pb.CheckTokenRequest, context: Context
    ) -> pb.CheckTokenReply:
        # Else it would be a way to guess tokens that is not limited, or not seen.
        with self._counting_failures(request.name, context):
            until = self._authority.check_token(request.token, request.role, request.name)
        return pb.CheckTokenReply(until_ms=int(until * 1000))

    @contextlib.contextmanager
    def _counting_failures(self, name: str, context: Context) -> Iterator[None]:
        host, now = rpc.host_of(context), self._clock()
        try:
            yield
        except RemoteError as error:
            # Whoever has a good token is heard, also from behind the address of somebody who guesses.
            if wait := self._failed.wait_s(host, now):
                raise RemoteError(
                    Reason.RATE_LIMITED, f"{host} failed too often: wait {wait:.0f} s", peer=name
                ) from error
            self._failed.add(host, now)
            raise


class RegistryService(pb_grpc.RegistryServicer):
    def __init__(
        self,
        own: Identity,
        authority: Authority,
        roster: Roster,
        draws: Draws,
        metrics: Metrics,
        callers: Callers | None = None,
    ) -> None:
        self._own = own
        self._authority = authority
        self._roster = roster
        self._draws = draws
        self._metrics = metrics
        limited = partial(
            rpc.handler, metrics=metrics, on_refusal=_warn, callers=callers or Callers()
        )
        for name in ("Register", "Heartbeat", "Lookup", "Goodbye", "Renew", "Draw"):
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
        # Prometheus asks there: else a peer could have it ask any machine that it reaches.
        host, found = (_host_of(item, peer) for item in (request.address, request.metrics_address))
        if found != host:
            raise RemoteError(
                Reason.MALFORMED, "host of the metrics", peer=peer, expected=host, found=found
            )
        certificate = rpc.caller_certificate(context)
        index = self._roster.register(
            peer,
            request.address,
            request.metrics_address,
            certificate,
            time.monotonic(),
            request.software[:_LONGEST_VERSION],
            request.protocol,
        )
        log.info(
            "peer %s is at %s, data slice %d",
            peer,
            request.address,
            index,
            extra=about(LogEvent.REGISTERED, peer=peer),
        )
        return pb.RegisterReply(index=index)

    async def _heartbeat(self, request: pb.HeartbeatRequest, context: Context) -> pb.Roster:
        peer = await rpc.require(context, Role.PEER)
        if not self._roster.heartbeat(peer, time.monotonic()):
            raise RemoteError(Reason.NOT_REGISTERED, peer=peer)
        if request.roster_version == self._roster.version:
            version = self._roster.version
            return pb.Roster(version=version, unchanged=True, time_ms=_now_ms())
        return self._whole()

    async def _lookup(self, request: pb.LookupRequest, context: Context) -> pb.Roster:
        role, _ = rpc.caller(context)
        if role is Role.AGGREGATOR:
            self._roster.take_aggregator(rpc.caller_certificate(context))
            if request.protocol:  # not from `smpcfl status`
                self._roster.take_aggregator_versions(
                    request.software[:_LONGEST_VERSION], request.protocol
                )
        return self._whole()

    async def _goodbye(self, request: pb.GoodbyeRequest, context: Context) -> pb.GoodbyeReply:
        peer = await rpc.require(context, Role.PEER)
        self._roster.remove(peer)
        log.info("peer %s has left", peer, extra=about(LogEvent.LEFT, peer=peer))
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
        log.info(
            "renewed the certificate of %s %s",
            role,
            name,
            extra=about(LogEvent.CERTIFICATE_RENEWED, peer=name),
        )
        return pb.EnrolReply(certificate=certificate)

    async def _draw(self, request: pb.DrawRequest, context: Context) -> pb.DrawReply:
        role, name = rpc.caller(context)
        return self._draws.told_all() if role is Role.AGGREGATOR else self._draws.told(name)

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
                    software=entry.software,
                    protocol=entry.protocol,
                )
                for entry in entries
            ],
            aggregator_certificate=self._roster.aggregator_certificate,
            registry_certificate=certificates.der(self._own.certificate),
            revoked=sorted(self._roster.revoked),
            draw=self._draws.number,
            group_size=self._draws.group_size,
            time_ms=_now_ms(),
            software=__version__,
            aggregator_software=self._roster.aggregator_software,
            aggregator_protocol=self._roster.aggregator_protocol,
        )


def _host_of(address: str, peer: str) -> str:
    try:
        return host_port.split(address)[0]
    except ValueError:
        found = address[:255]
        raise RemoteError(Reason.MALFORMED, "address", peer=peer, found=found) from None


def _now_ms() -> int:
    return int(time.time() * 1000)


def _warn(error: RemoteError) -> None:
    log.warning("refused: %s", error, extra=about(LogEvent.REFUSED))
