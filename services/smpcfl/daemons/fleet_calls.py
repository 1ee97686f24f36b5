"""Who calls Flower's API for SuperNodes, and how much one call may send: settled before it is read.

Flower itself reads and parses a whole body first, and only then looks at the signature.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import datetime
from typing import Any

from flwr.common.constant import (
    FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE,
    SYSTEM_TIME_TOLERANCE,
    TIMESTAMP_HEADER,
    TIMESTAMP_TOLERANCE,
)
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
from flwr.supercore.date import now
from flwr.supercore.primitives.asymmetric import bytes_to_public_key, verify_signature
from starlette.datastructures import Headers

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Any, Any], Awaitable[None]]

# Bytes. Flower pushes a message object by object, and cuts arrays into chunks of 5 MiB: so a chunk is the
# largest body of ours. Four of them leave room for an app's ConfigRecord, which Flower does not cut.
LARGEST_BODY = 4 * FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE
_LONGEST_HEADER = 1024  # of those that we decode; a key takes 292, a signature 140


def public_key_of(headers: Headers) -> bytes | None:
    """The node's key that the caller shows, PEM. None if it shows none."""
    try:
        return _decoded(headers, FLEET_HTTP_PUBLIC_KEY_HEADER)
    except (KeyError, ValueError):
        return None


def is_signed(headers: Headers) -> bool:
    """Whether the caller holds the key that it shows, by Flower's rule: it signed what time it is."""
    try:
        key = bytes_to_public_key(_decoded(headers, FLEET_HTTP_PUBLIC_KEY_HEADER))
        signature = _decoded(headers, FLEET_HTTP_SIGNATURE_HEADER)
        time = headers[TIMESTAMP_HEADER]
        age = (now() - datetime.fromisoformat(time)).total_seconds()
        if not -SYSTEM_TIME_TOLERANCE < age < TIMESTAMP_TOLERANCE + SYSTEM_TIME_TOLERANCE:
            return False
        return verify_signature(key, time.encode("ascii"), signature)
    except (KeyError, ValueError, TypeError, OverflowError):
        return False


def _decoded(headers: Headers, name: str) -> bytes:
    text = headers[name]
    if len(text) > _LONGEST_HEADER:
        raise ValueError("too long")
    return b64decode(text, validate=True)


def is_announced_too_long(headers: Headers) -> bool:
    """By Content-Length."""
    length = headers.get("content-length", "0")
    return not (length.isascii() and length.isdigit() and int(length[:20]) <= LARGEST_BODY)


async def forward(app: App, scope: Scope, receive: Any, send: Any) -> bool:
    """Passes a request on, up to `LARGEST_BODY` bytes of its body. False: it was longer, and is unanswered.

    Keeps nothing of the body. To `app` a caller who sends too much is one who hung up.
    """
    received, answered = 0, False

    async def receive_some() -> Any:
        nonlocal received
        if received <= LARGEST_BODY:
            message = await receive()
            received += len(message.get("body", b""))
            if received <= LARGEST_BODY:
                return message
        return {"type": "http.disconnect"}

    async def answer(message: Any) -> None:
        nonlocal answered
        if answered or received <= LARGEST_BODY:
            answered = True
            await send(message)

    try:
        await app(scope, receive_some, answer)
    except Exception:
        if received <= LARGEST_BODY:
            raise
    return answered or received <= LARGEST_BODY
