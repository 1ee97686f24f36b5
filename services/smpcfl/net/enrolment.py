"""How a process gets its certificate: its own key, a join token, and the registry's CA."""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import Sequence
from pathlib import Path

import grpc
import grpc.aio
from cryptography import x509

from smpc.v1 import registry_pb2 as pb
from smpc.v1 import registry_pb2_grpc as pb_grpc

from ..base import files
from ..base.config import Settings
from ..base.log_events import LogEvent, about
from ..base.metrics import Metrics
from ..base.state import JoinFolder, State
from ..base.waiting import wait_for
from ..protocol.signing import AGGREGATOR, REGISTRY
from . import certificates, rpc
from .certificates import BACKDATE, Identity, IdentityError, Role
from .directory import Directory
from .kept_certificate import check_kept
from .reachability import Trouble

log = logging.getLogger("smpcfl.enrolment")
_ATTEMPT_S = 5.0
_PATIENCE_S = 60.0
_RETRY_S = 5.0
_LOOK_S = 60.0
TOKEN_VARIABLE = "SMPCFL_TOKEN"


async def enrol(settings: Settings, role: Role, hosts: Sequence[str] = ()) -> Identity:
    """This process's identity: the one kept in the state folder, or a new certificate.

    Waits up to a minute for the registry. IdentityError for a missing or refused token.
    """
    given = os.environ.pop(TOKEN_VARIABLE, "")  # and so no child inherits it
    ca_path = JoinFolder(settings.join).ca
    await _wait_for_file(ca_path)
    ca = certificates.load_ca(ca_path)
    kept = certificates.load(settings.state, ca)
    if kept is not None and kept.role is role:
        if role is Role.PEER and settings.peer_id not in ("", kept.name):
            raise IdentityError(
                f"{settings.state} is that of peer {kept.name}, not {settings.peer_id}: give each peer a"
                " state folder of its own, or leave the id out"
            )
        return kept
    try:
        check_kept(settings.state, ca, role)
    except Trouble as trouble:
        log.warning(
            "a new certificate is asked for: %s", trouble, extra=about(LogEvent.CERTIFICATE_UNFIT)
        )
    token = _read_token(JoinFolder(settings.join).token, given)
    key_path = State(settings.state).key
    key = certificates.load_key(key_path) if key_path.exists() else certificates.new_key()
    files.write_private(key_path, certificates.key_pem(key))
    name = _name(settings, role)
    request = pb.EnrolRequest(
        token=token, csr=certificates.signing_request(key, role, name, hosts), role=role, name=name
    )
    reply = await _call(settings.enrolment, ca, request)
    own = Identity(role, name, key, x509.load_der_x509_certificate(reply.certificate), ca)
    certificates.check_certificate(reply.certificate, ca)
    certificates.save(settings.state, own)
    return own


async def keep_renewed(
    own: Identity,
    settings: Settings,
    directory: Directory,
    metrics: Metrics,
    stop: asyncio.Event,
    hosts: Sequence[str] = (),
) -> None:
    """Renews the certificate of `own` in good time until `stop`. Rounds and connections go on meanwhile.

    IdentityError once it has expired: a service that is started again enrols again.
    """
    early = random.uniform(0.0, 0.1)  # else those that started together all come at once
    while not stop.is_set():
        certificate = own.certificate
        metrics.certificate_expiry.set(certificate.not_valid_after_utc.timestamp())
        life = certificate.not_valid_after_utc - certificate.not_valid_before_utc - BACKDATE
        due = certificates.renewal(certificate) - life * early
        if certificates.now() > certificate.not_valid_after_utc:
            raise IdentityError(
                f"the certificate expired at {certificate.not_valid_after_utc}, and the registry at"
                f" {settings.registry} has not renewed it: start again, with a join token that is good"
            )
        if certificates.now() >= due:
            try:
                await _renew(own, settings, directory, hosts)
            except (grpc.aio.AioRpcError, OSError) as error:
                reason = error.details() if isinstance(error, grpc.aio.AioRpcError) else error
                until = certificate.not_valid_after_utc
                log.warning(
                    "the certificate, good until %s, is not renewed yet: %s",
                    until,
                    reason,
                    extra=about(LogEvent.CERTIFICATE_NOT_RENEWED),
                )
            await wait_for(stop, _RETRY_S)
        else:
            # In short steps, by the wall clock: a machine that was asleep looks at once.
            await wait_for(stop, min((due - certificates.now()).total_seconds(), _LOOK_S))


async def _renew(
    own: Identity, settings: Settings, directory: Directory, hosts: Sequence[str]
) -> None:
    csr = certificates.signing_request(own.key, own.role, own.name, hosts)
    reply = await directory.registry.Renew(pb.RenewRequest(csr=csr), timeout=_ATTEMPT_S)
    certificates.check_certificate(reply.certificate, own.ca)
    certificate = x509.load_der_x509_certificate(reply.certificate)
    # On disk first: the SuperLink and the ServerApp take it from there.
    certificates.save_certificate(settings.state, certificate)
    own.certificate = certificate
    directory.members.add(reply.certificate)
    await directory.reconnect()
    log.info(
        "certificate renewed: good until %s",
        certificate.not_valid_after_utc,
        extra=about(LogEvent.CERTIFICATE_RENEWED),
    )


def _name(settings: Settings, role: Role) -> str:
    """The peer id: as set, or as drawn at the first start of this replica."""
    if role is not Role.PEER:
        return AGGREGATOR
    path = State(settings.state).peer_id
    if settings.peer_id:
        return certificates.check_name(settings.peer_id)
    if not path.exists():
        files.write_private(path, certificates.new_peer_id().encode())
    return certificates.check_name(path.read_text(errors="replace").strip())


def _read_token(path: Path, given: str) -> str:
    if given:
        return given.strip()
    try:
        return path.read_text(errors="replace").strip()  # the registry refuses what is no token
    except OSError as error:
        raise IdentityError(
            f"no join token at {path} ({error.strerror}): copy it from the registry's join folder, make one"
            f" with `smpcfl token` where the registry runs, or give it as {TOKEN_VARIABLE}"
        ) from error


async def _wait_for_file(path: Path) -> None:
    """The registry may still be making its CA."""
    waited = 0.0
    while not path.exists() and waited < _PATIENCE_S:
        if waited == 0:
            log.info(
                "waiting up to %.0f s for the registry's CA certificate at %s: it is there once `smpcfl"
                " registry` is up, if this is its join folder (--join)",
                _PATIENCE_S,
                path,
                extra=about(LogEvent.WAITING),
            )
        await asyncio.sleep(0.2)
        waited += 0.2


async def check_token(
    address: str, ca: x509.Certificate, request: pb.CheckTokenRequest, seconds: float
) -> pb.CheckTokenReply:
    """What the registry says of a join token, which stays as it is; grpc.aio.AioRpcError if it is refused."""
    async with _channel(address, ca) as channel:
        return await pb_grpc.EnrolmentStub(channel).CheckToken(request, timeout=seconds)


def _channel(address: str, ca: x509.Certificate) -> grpc.aio.Channel:
    """To the registry of `ca` alone, without a certificate of our own."""
    options = [("grpc.ssl_target_name_override", certificates.tls_name(Role.REGISTRY, REGISTRY))]
    return grpc.aio.secure_channel(
        address, grpc.ssl_channel_credentials(certificates.pem(ca)), options
    )


async def _call(address: str, ca: x509.Certificate, request: pb.EnrolRequest) -> pb.EnrolReply:
    loop = asyncio.get_running_loop()
    began, told = loop.time(), False
    async with _channel(address, ca) as channel:
        while True:
            try:
                return await pb_grpc.EnrolmentStub(channel).Enrol(request, timeout=_ATTEMPT_S)
            except grpc.aio.AioRpcError as error:
                if rpc.reason_of(error) is not None:
                    raise IdentityError(
                        f"the registry refused to enrol: {error.details()}"
                    ) from error
                if loop.time() - began > _PATIENCE_S:
                    raise IdentityError(
                        f"no registry at {address} after {_PATIENCE_S:.0f} s ({error.details()}):"
                        " start one with `smpcfl registry`, or give its address with --enrolment"
                    ) from error
                if not told:
                    log.info(
                        "waiting up to %.0f s for the registry at %s",
                        _PATIENCE_S,
                        address,
                        extra=about(LogEvent.WAITING),
                    )
                    told = True
                await asyncio.sleep(1.0)
