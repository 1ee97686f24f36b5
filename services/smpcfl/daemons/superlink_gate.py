"""What the SuperLink's port lets in: of Flower's APIs the network gets only the one for SuperNodes.

Flower serves three on one port, and of these the Control API (start a run, register a node) asks nobody who
he is. Here everything but the Fleet API is for this machine alone, and a SuperNode's key counts once a peer
has signed for it with its own. Nothing of a body is read before that is settled. Runs inside the SuperLink's
process (`smpcfl.daemons.entry`), as the outermost middleware.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import ssl
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvicorn.config
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from flwr.common.constant import NOOP_ACCOUNT_NAME, NOOP_FLWR_AID
from flwr.supercore.constant import NodeStatus
from flwr.superlink import extensions
from google.protobuf.message import DecodeError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from smpc.v1 import node_pb2, registry_pb2

from ..base.log_events import LogEvent, about
from ..base.state import State
from ..net import certificates
from ..net.certificates import IdentityError
from ..net.node_proof import check_proof, node_key_bytes
from ..net.wire import parse
from ..protocol.errors import LocalError, RemoteError
from . import fleet_calls
from .fleet_calls import App, Scope
from .node_key import PATH

log = logging.getLogger("smpcfl.gate")
FLEET = "/v1/fleet/"
_LONGEST = 16 << 10
_RELOAD_S = 5.0
# Whoever is refused sends no more: what is left of the body would be the next thing to read.
_CLOSE = {"connection": "close"}


class Gate:
    """ASGI middleware. `state` is the aggregator's folder, with ca.pem and the roster that it keeps.

    `host`: the address that the SuperLink listens on.
    """

    def __init__(self, app: App, state: Path, host: str) -> None:
        self._app = app
        self._state = state
        self._host = host
        self._peers: dict[bytes, str] = {}  # by the public key of their node
        self._revoked: tuple[int, frozenset[str]] = (0, frozenset())

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            response = await self._answer(scope, receive)
            if response is None and scope["path"].startswith(FLEET):
                if not await fleet_calls.forward(self._app, scope, receive, send):
                    response = _too_long(scope)
            elif response is None:
                await self._app(scope, receive, send)
            if response is not None:
                await response(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Any) -> Response | None:
        """None lets it pass."""
        path = scope["path"]
        if path == PATH and scope["method"] == "POST":
            return await self._register(Request(scope, receive))
        if path.startswith(FLEET):
            return await run_in_threadpool(self._check_call, scope)
        if not self._is_local(scope):
            log.warning("refused %r to %s", path[:200], _host(scope), extra=about(LogEvent.REFUSED))
            return _refusal("only on the aggregator's own machine", 403)
        return None

    def _check_call(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        peer = self._peer_of(headers, scope["app"])
        if peer is None or peer in self._read_revoked():
            return _refusal("this node's key is no peer's", 403)
        if not fleet_calls.is_signed(headers):
            # The words are Flower's: SuperNodes know them.
            body = {"detail": "Invalid SuperNode authentication"}
            return JSONResponse(body, 401, headers=_CLOSE)
        return _too_long(scope) if fleet_calls.is_announced_too_long(headers) else None

    async def _register(self, request: Request) -> Response:
        body = b""
        async for piece in request.stream():
            body += piece
            if len(body) > _LONGEST:
                return _refusal("too long", 413)
        try:
            name, public_key = await run_in_threadpool(self._check, body)
        except (IdentityError, RemoteError) as error:
            log.warning("refused a node key: %s", error, extra=about(LogEvent.REFUSED))
            return _refusal(str(error), 403)
        state = request.scope["app"].state.linkstate_factory.state()
        if not await run_in_threadpool(_replace_node, state, name, public_key):
            return _refusal("another peer's node has this key", 403)
        self._peers = {key: peer for key, peer in self._peers.items() if peer != name}
        self._peers[public_key] = name
        return Response(status_code=204)

    def _check(self, body: bytes) -> tuple[str, bytes]:
        """The peer and the node key that it signed for."""
        message = parse(node_pb2.NodeKey, body)
        member = check_proof(
            message.certificate,
            node_key_bytes(message.public_key),
            message.signature,
            certificates.load_ca(State(self._state).ca),
        )
        if member.name in self._read_revoked():
            raise IdentityError(f"the certificate of {member.name} is revoked")
        try:
            key = load_pem_public_key(message.public_key)
        except Exception as error:
            raise IdentityError(f"{member.name}: not a public key: {error}") from error
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise IdentityError(f"{member.name}: not an EC public key")
        return member.name, message.public_key

    def _peer_of(self, headers: Headers, app: Any) -> str | None:
        """Whose node's key the caller shows."""
        key = fleet_calls.public_key_of(headers)
        if key is None:
            return None
        if key not in self._peers:
            # From before a restart of the SuperLink: its database knows the names.
            state = app.state.linkstate_factory.state()
            node = state.get_node_id_by_public_key(key)
            found = [] if node is None else state.get_node_info(node_ids=[node])
            if not found or not found[0].name:
                return None
            self._peers[key] = found[0].name
        return self._peers[key]

    def _is_local(self, scope: Scope) -> bool:
        """Loopback, or the one address that the SuperLink listens on: Flower's own children, `smpcfl run`.

        An address of this machine's proves nothing if it listens on all: a forwarder may put it there.
        """
        client = scope.get("client")
        if not client:
            return False
        return ipaddress.ip_address(client[0]).is_loopback or client[0] == self._host

    def _read_revoked(self) -> frozenset[str]:
        """As the aggregator last heard of it from the registry."""
        path = State(self._state).roster
        try:
            changed = path.stat().st_mtime_ns
            if changed != self._revoked[0]:
                roster = registry_pb2.Roster.FromString(path.read_bytes())
                self._revoked = (changed, frozenset(roster.revoked))
        except (FileNotFoundError, DecodeError) as error:
            log.debug("no roster: %s", error)  # the last one stands
        return self._revoked[1]


def _refusal(text: str, status: int) -> Response:
    return Response(text, status, headers=_CLOSE)


def _too_long(scope: Scope) -> Response:
    text = f"more than {fleet_calls.LARGEST_BODY} bytes in one request"
    log.warning(
        "refused %r to %s: %s",
        scope["path"][:200],
        _host(scope),
        text,
        extra=about(LogEvent.REFUSED),
    )
    return _refusal(text, 413)


def _host(scope: Scope) -> str:
    return (scope.get("client") or ("nobody",))[0]


def _replace_node(state: Any, name: str, public_key: bytes) -> bool:
    """The peer `name` has one node, the one with this key. False if that is another peer's."""
    living = (NodeStatus.REGISTERED, NodeStatus.ONLINE, NodeStatus.OFFLINE)
    nodes = state.get_node_info(owner_aids=[NOOP_FLWR_AID], statuses=living)
    holders = {node.name for node in nodes if node.public_key == public_key}
    if holders:
        return holders == {name}
    for node in nodes:
        if node.name == name:
            state.delete_node(NOOP_FLWR_AID, node.node_id)
    state.create_node(NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, public_key, 0, name=name)
    return True


def install(command: Sequence[str]) -> None:
    """For the SuperLink that `command` starts here. LocalError if this Flower has no place for it."""
    state = Path(os.environ["SMPCFL_AGGREGATOR_STATE"])
    if not hasattr(extensions, "get_middleware"):
        raise LocalError(
            "this version of flwr takes no middleware: install the one in pyproject.toml"
        )
    host = command[command.index("--host") + 1]
    # With it set uvicorn would believe what a caller says of its own address, and the gate after it.
    os.environ.pop("FORWARDED_ALLOW_IPS", None)
    extensions.get_middleware = lambda: (Middleware(Gate, state=state, host=host),)
    # httptools, which it would take, keeps a header without end, from whoever connects; h11 at most 64 KiB.
    uvicorn.config.HTTP_PROTOCOLS["auto"] = uvicorn.config.HTTP_PROTOCOLS["h11"]
    make = uvicorn.config.create_ssl_context

    def create_ssl_context(certfile: Any, *arguments: Any, **options: Any) -> ssl.SSLContext:
        context = make(certfile, *arguments, **options)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        threading.Thread(target=_follow_certificate, args=(context, state), daemon=True).start()
        return context

    uvicorn.config.create_ssl_context = create_ssl_context


def _follow_certificate(context: ssl.SSLContext, state: Path) -> None:
    """New connections get the renewed certificate; those that stand are not touched."""
    certificate, key = State(state).certificate, State(state).key
    seen = certificate.stat().st_mtime_ns
    while True:
        time.sleep(_RELOAD_S)
        changed = certificate.stat().st_mtime_ns
        if changed != seen:
            context.load_cert_chain(certificate, key)
            seen = changed
