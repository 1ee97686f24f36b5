"""How a peer hears of draws: from the registry, when the roster or a ticket tells of a newer one."""

from __future__ import annotations

import logging

import grpc.aio

from ..base.log_events import LogEvent, about
from ..base.metrics import Metrics
from ..net import certificates
from ..net.certificates import Identity
from ..net.directory import Directory
from ..net.kept_draw import KeptDraw
from ..protocol.errors import RemoteError
from ..protocol.grouping import Grouping
from ..protocol.signing import AGGREGATOR
from ..protocol.ticket import SignedTicket

log = logging.getLogger("smpcfl.peer")


class PeerDraws:
    """Keeps `draw` up to date. `grouping`: what the peer goes by when it looks at tickets."""

    def __init__(
        self, own: Identity, draw: KeptDraw, directory: Directory, metrics: Metrics
    ) -> None:
        self._own = own
        self._draw = draw
        self._directory = directory
        self._metrics = metrics
        self.grouping = Grouping(own.name, draw, lambda: directory.needs_draw, self._fingerprint_of)

    async def follow(self) -> None:
        """After a heartbeat: asks the registry if it told of another draw than the one that is known."""
        if self._directory.draw not in (0, self._draw.number):
            await self._ask()

    async def learn(self, signed: SignedTicket) -> None:
        """Before a ticket is looked at: the aggregator may have heard of a new draw a heartbeat earlier."""
        ticket = signed.ticket
        if ticket.draw > self._draw.number and self._directory.members.verify(
            AGGREGATOR, ticket.signed_bytes, signed.signature
        ):
            await self._ask()

    async def _ask(self) -> None:
        """Where nothing comes of it, the peer goes on with the draw that it has."""
        try:
            if not self._draw.take(await self._directory.ask_draw()):
                return
        except RemoteError as error:
            self._metrics.rejected.inc(reason=error.reason.value)
            log.warning("refused: %s", error, extra=about(LogEvent.REFUSED))
        except grpc.aio.AioRpcError as error:
            log.warning(
                "the registry does not tell its draw: %s",
                error.details(),
                extra=about(LogEvent.REGISTRY_AWAY),
            )
        except OSError as error:
            log.error(
                "the new draw cannot be kept, and is not gone by: %s; make room",
                error,
                extra=about(LogEvent.STORAGE_FAILED),
            )
        else:
            self._log()

    def _log(self) -> None:
        number, own = self._draw.number, self._draw.group_of(self._own.name)
        if own is None:
            log.warning(
                "draw %d: this peer came after it, and waits for the next one",
                number,
                extra=about(LogEvent.NOT_DRAWN),
            )
            return
        log.info(
            "draw %d, of all peers with digest %s: group %d of %d, %d members",
            number,
            own.cohort_digest.hex()[:16],
            own.group,
            own.groups,
            len(own.members),
            extra=about(LogEvent.DRAWN),
        )

    def _fingerprint_of(self, peer: str) -> bytes | None:
        if peer == self._own.name:
            return bytes.fromhex(certificates.fingerprint(self._own.key.public_key()))
        member = self._directory.members.get(peer)
        return bytes.fromhex(member.fingerprint) if member else None
