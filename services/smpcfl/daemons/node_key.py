"""The SuperNode's key: made anew for each start, and made known to the SuperLink as this peer's.

A new one each time, because Flower holds a node that was killed for online, and refuses its key, for another
minute.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from pathlib import Path

import httpx
from cryptography.hazmat.primitives import serialization

from smpc.v1 import node_pb2 as pb

from ..base import files
from ..base.log_events import LogEvent, about
from ..base.waiting import or_stop, wait_for
from ..net import certificates, clocks
from ..net.certificates import Identity, IdentityError
from ..net.node_proof import node_key_bytes

log = logging.getLogger("smpcfl.peer")
PATH = "/v1/smpcfl/node"
_CALL_S = 10.0
_RETRY_S = 2.0


async def register(own: Identity, superlink: str, path: Path, stop: asyncio.Event) -> None:
    """Writes a new private key to `path` (OpenSSH format), once the SuperLink at host:port takes it.

    Waits for the SuperLink until `stop`. IdentityError if it refuses.
    """
    key = certificates.new_key()
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    context = ssl.create_default_context(cadata=certificates.pem(own.ca).decode())
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    waiting = False
    async with httpx.AsyncClient(verify=context, timeout=_CALL_S, trust_env=False) as client:
        while not stop.is_set():
            message = pb.NodeKey(
                certificate=certificates.der(own.certificate),
                public_key=public,
                signature=own.signer(node_key_bytes(public)),
            )
            try:
                files.write_private(path, private)
                body = message.SerializeToString()
                reply = await or_stop(stop, client.post(f"https://{superlink}{PATH}", content=body))
            except httpx.HTTPError as error:
                if not waiting:
                    log.info(
                        "waiting for the SuperLink at %s: %s",
                        superlink,
                        error,
                        extra=about(LogEvent.WAITING),
                    )
                waiting = True
            except OSError as error:
                log.warning(
                    "cannot keep the SuperNode's key in %s: %s",
                    path,
                    error,
                    extra=about(LogEvent.STORAGE_FAILED),
                )
            else:
                if reply is None:
                    return
                _check_clock(reply.headers.get("date", ""), superlink)
                if reply.status_code == httpx.codes.NO_CONTENT:
                    return
                if reply.status_code == httpx.codes.FORBIDDEN:
                    raise IdentityError(f"the SuperLink at {superlink} refused: {reply.text}")
                log.warning("the SuperLink replied %d: %s", reply.status_code, reply.text[:200])
            await wait_for(stop, _RETRY_S)


def _check_clock(date: str, superlink: str) -> None:
    """Logs it if the SuperLink's clock, as in its reply, is another: it would refuse the SuperNode."""
    now = time.time()
    off = clocks.of_date(date, now, now)
    if off is not None and off.exceeds(clocks.WARNING_S - 2):  # it refuses before we are certain
        log.error(
            "this clock is %s, compared to that of the SuperLink at %s, which allows %.0f s: %s",
            off,
            superlink,
            clocks.WARNING_S,
            clocks.REMEDY,
            extra=about(LogEvent.CLOCK_OFF),
        )
