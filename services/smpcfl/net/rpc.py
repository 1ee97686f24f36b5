"""gRPC as all services use it: mutual TLS, role checks, refusals with their reason, bounded sizes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, NoReturn, TypeAlias, TypeVar

import grpc
import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from google.protobuf.message import DecodeError

from ..base.config import cannot_listen
from ..base.host_port import family, joined
from ..base.log_events import during
from ..base.metrics import Metrics
from ..protocol.errors import ProtocolError, Reason, RemoteError
from ..protocol.ring import Raw
from .callers import Callers
from .certificates import Identity, Role, only_role, tls_name

FRAME_BYTES = 5  # gRPC's length prefix of every message
CHUNK_BYTES = 1 << 20
RPC_OUTCOMES = ("ok", "refused", "error")
_REASON = "smpcfl-reason"
MOST_REPLY_BYTES = 8 << 20
_MAX_REQUEST = CHUNK_BYTES + (64 << 10)  # a chunk; the ticket of the largest cohort takes 0.7 MB
_OPTIONS = [
    ("grpc.max_receive_message_length", MOST_REPLY_BYTES),
    ("grpc.max_send_message_length", MOST_REPLY_BYTES),
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    # Now and then a connection is made anew, and with it the check of both certificates.
    ("grpc.max_connection_age_ms", 3_600_000),
    ("grpc.max_connection_age_grace_ms", 120_000),
]

_UNKNOWN_S = 1.0  # before a method that there is not is refused
_SERVER_OPTIONS = [
    *_OPTIONS[1:],
    ("grpc.max_receive_message_length", _MAX_REQUEST),
    ("grpc.max_concurrent_streams", 16),  # of one connection
    ("grpc.server_handshake_timeout_ms", 10_000),
]

T = TypeVar("T")
Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


def new_server() -> grpc.aio.Server:
    return grpc.aio.server(options=_SERVER_OPTIONS, interceptors=[_Reading()])


class _Reading(grpc.aio.ServerInterceptor):
    """Leaves it to `handler` to refuse what is no message, or comes too often.

    gRPC logs a traceback for each request that is no message, and asks nobody first.
    """

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        found = await continuation(details)
        if found is None:
            await asyncio.sleep(_UNKNOWN_S)
            return None

        def read(raw: bytes) -> Any:
            try:
                return found.request_deserializer(raw)
            except DecodeError as error:
                return error

        return found._replace(request_deserializer=read)


def bind(
    server: grpc.aio.Server, host: str, port: int, credentials: grpc.ServerCredentials, option: str
) -> int:
    """Binds and returns the port (a free one for 0). PortInUse or ConfigError name the option."""
    # Looked at first: gRPC would write a line of its own.
    if (refusal := why_not_listen(host, port)) is not None and refusal.errno == errno.EADDRINUSE:
        raise cannot_listen(host, port, option, refusal)
    try:
        return server.add_secure_port(joined(host, port), credentials)
    except RuntimeError as error:
        found = why_not_listen(host, port) or OSError(errno.EADDRINUSE, "in use a moment ago")
        raise cannot_listen(host, port, option, found) from error


def why_not_listen(host: str, port: int) -> OSError | None:
    """What keeps from listening there, if anything: gRPC does not say."""
    try:
        socket.create_server((host, port), family=family(host)).close()
    except OSError as error:
        return error
    return None


def channel(
    identity: Identity, address: str, role: Role, name: str, most_bytes: int = MOST_REPLY_BYTES
) -> grpc.aio.Channel:
    """A channel that only talks to the holder of `name`'s certificate, wherever it is.

    `most_bytes`: of a reply.
    """
    options: list[tuple[str, Any]] = [
        *_OPTIONS[1:],
        ("grpc.max_receive_message_length", most_bytes),
        ("grpc.ssl_target_name_override", tls_name(role, name)),
    ]
    if role is Role.REGISTRY:
        # gRPC's own 120 s would leave a registry that was away for minutes unseen for two more.
        options.append(("grpc.max_reconnect_backoff_ms", 3_000))
    return grpc.aio.secure_channel(address, identity.channel_credentials(), options)


def local_channel(path: str) -> grpc.Channel:
    """Blocking channel to a service on this machine's Unix socket.

    Without pings: a socket file needs none, and a call that waits for a minute would be ended for them. With
    a connection of its own: who listened at this path before may still hold another one.
    """
    options = [item for item in _OPTIONS if item[0].endswith("_message_length")]
    options.append(("grpc.use_local_subchannel_pool", 1))
    return grpc.insecure_channel(f"unix:{path}", options)


def pieces(data: Raw) -> Iterator[bytes]:
    """For a stream: at least one, none larger than CHUNK_BYTES."""
    view = memoryview(data)
    for start in range(0, max(len(view), 1), CHUNK_BYTES):
        yield bytes(view[start : start + CHUNK_BYTES])


def size(message: Any) -> int:
    """Bytes of one protobuf message on the wire, with its frame."""
    return int(message.ByteSize()) + FRAME_BYTES


def caller(context: Context) -> tuple[Role, str]:
    """Role and name from the caller's certificate."""
    names = context.auth_context().get("x509_subject_alternative_name", [])
    named = only_role(name.decode(errors="replace") for name in names)
    if named is None:
        raise RemoteError(Reason.ROLE, "certificate without exactly one role")
    return named


def host_of(context: Context) -> str:
    """The caller's host, by its connection: `ipv4:10.0.0.2` of `ipv4:10.0.0.2:41234`."""
    return str(context.peer()).rpartition(":")[0]


def caller_certificate(context: Context) -> bytes:
    """The caller's certificate, DER."""
    (pem,) = context.auth_context()["x509_pem_cert"]
    return x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)


async def require(context: Context, *roles: Role) -> str:
    """The caller's name if its role is among `roles`; refuses the call otherwise."""
    role, name = caller(context)
    if role not in roles:
        raise RemoteError(Reason.ROLE, peer=name, expected="/".join(roles), found=role)
    return name


def check_standing(context: Context, revoked: frozenset[str]) -> None:
    """Refuses a caller whose name is among `revoked`, on whatever connection it calls."""
    _, name = caller(context)
    if name in revoked:
        raise RemoteError(Reason.REVOKED, peer=name)


def refusal_metadata(error: RemoteError) -> tuple[tuple[str, str], ...]:
    """What a refusing server sends along, from which `reason_of` reads the reason."""
    return ((_REASON, error.reason.value),)


async def refuse(context: Context, error: RemoteError) -> NoReturn:
    context.set_trailing_metadata(refusal_metadata(error))
    await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
    raise AssertionError("abort does not return")


def reason_of(error: grpc.RpcError) -> Reason | None:
    """The reason that a refusing server gave, if it was one of ours."""
    metadata: Any = error.trailing_metadata() if hasattr(error, "trailing_metadata") else None
    for key, value in metadata or ():
        if key == _REASON and value in list(Reason):
            return Reason(value)
    return None


def handler(
    method: str,
    metrics: Metrics,
    *,
    on_refusal: Callable[[RemoteError], None] | None = None,
    callers: Callers | None = None,
    timed: bool = True,
) -> Callable[[Callable[..., Awaitable[T]]], Callable[..., Awaitable[T]]]:
    """Times a unary handler and turns its RemoteError into a refusal that carries the reason.

    `callers`: who may call how often; without it, everybody as often as they like. `timed`: not for what a
    ClientApp calls, which would tell how busy one peer's training keeps its machine.
    """

    def decorate(function: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
        async def handle(request: Any, context: Context) -> T:
            began, outcome = time.perf_counter(), "error"
            try:
                async with _admitted(callers, context):
                    reply = await function(_readable(request), context)
                outcome = "ok"
                return reply
            except RemoteError as error:
                outcome = "refused"
                # Not having the ticket yet is the normal course of gossip, not a rejection.
                if error.reason is not Reason.UNKNOWN_TICKET:
                    metrics.rejected.inc(reason=error.reason.value)
                    # Not a line for each call of a flood.
                    if on_refusal and error.reason is not Reason.RATE_LIMITED:
                        with during(peer=_caller_name(callers, context)):
                            on_refusal(error)
                await refuse(context, error)
            except ProtocolError as error:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
                raise
            finally:
                if timed:
                    seconds = time.perf_counter() - began
                    metrics.rpc_duration.observe(seconds, method=method, outcome=outcome)

        return handle

    return decorate


def _admitted(callers: Callers | None, context: Context) -> AbstractAsyncContextManager[None]:
    if callers is None:
        return contextlib.nullcontext()
    role, name = caller(context)
    return callers.admit(tls_name(role, name))


def _caller_name(callers: Callers | None, context: Context) -> str:
    """For the log; empty where callers have no certificate."""
    if callers is not None:
        with contextlib.suppress(RemoteError):
            return caller(context)[1]
    return ""


def _readable(request: Any) -> Any:
    """The request, or the stream of them. RemoteError(MALFORMED) for what could not be read."""
    if isinstance(request, DecodeError):
        raise RemoteError(Reason.MALFORMED, str(request))
    return _each(request) if hasattr(request, "__aiter__") else request


async def _each(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield _readable(request)
