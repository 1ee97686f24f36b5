"""One peer's side of one `additive` round: n-of-n additive sharing with full-size shares.

The peer draws one uniform vector for each other peer, keeps the residual, and uploads the sum of what it
holds. Any peer that is lost voids the round.
"""

from __future__ import annotations

from collections.abc import Callable

from .errors import Reason, RemoteError
from .keystream import Secret, expand
from .masks import AdditiveMasks
from .messages import AdditiveShare, Call, Header, PeerMessage, header_bytes
from .phases import Event, Phase, step
from .retry import Retries
from .ring import RingVector
from .signing import Signer
from .ticket import DIGEST_BYTES, SignedTicket

NO_ANNOUNCEMENT = bytes(DIGEST_BYTES)


class AdditivePeerRound:
    """Same shape as `PeerRound`; there is no ready, agree or unmask."""

    def __init__(
        self,
        signed_ticket: SignedTicket,
        me: str,
        signer: Signer,
        entropy: Callable[[int], bytes],
    ) -> None:
        self.signed_ticket = signed_ticket
        self.ticket = signed_ticket.ticket
        self.me = self.ticket.index(me)
        self.neighbours = self.ticket.neighbours[self.me]
        self.phase = Phase.EXCHANGE
        self._signer = signer
        self._retries = Retries()
        # 32 fresh bytes for each share: expanded when it is sent, so memory does not grow with n*m.
        self._seeds = {index: Secret(entropy(32)) for index in self.neighbours}
        self._received: set[int] = set()
        self._delivered: set[int] = set()
        self._sum: RingVector = self.ticket.layout.zeros()
        self._frozen: bytes | None = None

    def share(self, sender: str, message: AdditiveShare, now: float) -> None:
        """Another peer's share. A second one changes nothing: the call may be repeated."""
        if message.ticket_digest != self.ticket.digest:
            raise RemoteError(Reason.UNKNOWN_TICKET, "share")
        index = self.ticket.index(sender)
        self._advance(now)
        if self.phase in (Phase.CLOSED, Phase.ABSTAINED):
            raise RemoteError(Reason.ROUND_CLOSED, "share")
        if index not in self.neighbours:
            raise RemoteError(Reason.NOT_A_NEIGHBOUR, peer=sender)
        vector = self.ticket.layout.parse(message.vector, sender)
        if index not in self._received:
            self._received.add(index)
            self._sum += vector
        self._advance(now)

    def masks_available(self, now: float) -> bool:
        """Whether `masks` may be called. RemoteError(TOO_FEW_COUNTING) once they never will be."""
        self._advance(now)
        if self.phase is Phase.ABSTAINED:
            raise RemoteError(
                Reason.TOO_FEW_COUNTING,
                "abstained at the upload deadline: shares are missing",
                expected=len(self.neighbours),
                found=len(self._received & self._delivered),
            )
        if self.phase is Phase.CLOSED:
            raise RemoteError(Reason.ROUND_CLOSED, "masks")
        return self.phase is Phase.READY

    def masks(
        self, model_digest: bytes, config_digest: bytes, now: float
    ) -> tuple[AdditiveMasks, Header]:
        """Shares received minus shares given, and the signed header; once."""
        if self.phase in (Phase.MASKED, Phase.UPLOADED):
            raise RemoteError(Reason.MASKS_SPENT, "the masks of this round were given out before")
        if model_digest != self.ticket.model_digest:
            raise RemoteError(Reason.MODEL_MISMATCH, "the model is not the one in the ticket")
        if config_digest != self.ticket.config_digest:
            raise RemoteError(Reason.CONFIG_MISMATCH, "the configuration is not the ticket's")
        if not self.masks_available(now):
            raise RemoteError(Reason.WRONG_PHASE, f"masks in phase {self.phase}")
        self.phase = step(self.phase, Event.MASK)
        total = self._sum
        for seed in self._seeds.values():
            total -= expand(seed, self.ticket.layout)
        signed = header_bytes(self.ticket.digest, self.me, NO_ANNOUNCEMENT, ())
        header = Header(self.ticket.digest, self.me, NO_ANNOUNCEMENT, (), self._signer(signed))
        self._sum = self.ticket.layout.zeros()
        return AdditiveMasks(total.tobytes()), header

    def freeze(self, upload: bytes, now: float) -> None:
        """Keeps the one upload of this round, to be resent byte for byte."""
        if self._frozen is None:
            self._advance(now)
            self.phase = step(self.phase, Event.FREEZE)
            self._frozen = upload
        elif self._frozen != upload:
            raise RemoteError(Reason.MASKS_SPENT, "another upload was frozen before")

    @property
    def frozen(self) -> bytes | None:
        return self._frozen

    def calls(self, now: float) -> list[Call]:
        """The shares that are due now; each is in flight until `answered` or `failed`."""
        self._advance(now)
        self._retries.look(now)
        if self.phase in (Phase.CLOSED, Phase.ABSTAINED):
            return []
        return [
            Call(
                self.ticket.cohort[index],
                AdditiveShare(self.ticket.digest, expand(seed, self.ticket.layout).tobytes()),
            )
            for index, seed in self._seeds.items()
            if index not in self._delivered and self._retries.start(index, now)
        ]

    def answered(self, call: Call, reply: PeerMessage | None, now: float) -> None:
        """The share arrived (a ticket that was offered needs no note)."""
        del reply
        if self.phase is not Phase.CLOSED and isinstance(call.message, AdditiveShare):
            index = self.ticket.index(call.to)
            self._retries.succeeded(index)
            self._delivered.add(index)
            self._advance(now)

    def failed(self, call: Call, now: float, reason: Reason | None = None) -> list[Call]:
        """The share did not arrive; returns what to send at once (the ticket, where unknown)."""
        if not isinstance(call.message, AdditiveShare):
            return []
        self._retries.failed(self.ticket.index(call.to), now)
        if reason is Reason.UNKNOWN_TICKET:
            return [Call(call.to, self.signed_ticket)]
        return []

    def next_event(self, now: float) -> float | None:
        """When `calls` has to be asked again even if nothing happens; None once the round is over."""
        if self.phase is Phase.CLOSED:
            return None
        deadlines = self.ticket.deadlines
        times = [at / 1000 for at in (deadlines.upload, deadlines.unmask) if at / 1000 > now]
        due = self._retries.next_due(now)
        if due is not None:
            times.append(due)
        return min(times, default=now)

    def close(self) -> None:
        """Drops the round's secrets; every later message is refused."""
        if self.phase is not Phase.CLOSED:
            self.phase = step(self.phase, Event.CLOSE)
        self._seeds = {}
        self._sum = self.ticket.layout.zeros()
        self._frozen = None

    def _advance(self, now: float) -> None:
        milliseconds, deadlines = now * 1000, self.ticket.deadlines
        if milliseconds >= deadlines.unmask:
            self.close()
            return
        everyone = set(self.neighbours)
        if self.phase is Phase.EXCHANGE and self._received & self._delivered == everyone:
            self.phase = step(self.phase, Event.CONFIRMED)
        if milliseconds >= deadlines.upload and self.phase in (
            Phase.EXCHANGE,
            Phase.READY,
            Phase.MASKED,
        ):
            self.phase = step(self.phase, Event.ABSTAIN)
