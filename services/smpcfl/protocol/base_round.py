"""What a peer's side of a round has in common in both modes: ticket, phase, clock, and the one upload."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from .errors import Reason, RemoteError
from .messages import Call, Header, PeerMessage, PeerRequest, header_bytes
from .phases import Event, Phase, step
from .retry import Retries
from .ring import Raw
from .signing import Signer
from .ticket import SignedTicket

Handler: TypeAlias = Callable[[str, Any, float], PeerMessage | None]


class BaseRound:
    """`me` is a peer id of the ticket's cohort. `now` is in seconds since this peer first saw the ticket.

    With `spread` the ticket is offered to each neighbour, after so many seconds, before anything else is
    sent to it: whoever has the ticket from the aggregator does so, whoever was offered it need not.
    """

    def __init__(
        self,
        signed_ticket: SignedTicket,
        me: str,
        signer: Signer,
        *,
        spread: float | None = None,
    ) -> None:
        self.signed_ticket = signed_ticket
        self.ticket = signed_ticket.ticket
        self.me = self.ticket.index(me)
        self.neighbours = self.ticket.neighbours[self.me]
        self.phase = Phase.EXCHANGE
        self.header: Header | None = None
        self._signer = signer
        self._retries = Retries()
        self._unoffered = set[int]()
        if spread is not None:
            self._unoffered.update(self.neighbours)
            for index in self.neighbours:
                self._retries.defer((SignedTicket, index), spread)
        self._frozen: Raw | None = None
        self._begun = False

    # -- what comes in ----------------------------------------------------------------------------

    def handle(self, sender: str, message: PeerMessage, now: float) -> PeerMessage | None:
        """The reply to a message of another peer; None where there is nothing to say.

        RemoteError if it is refused. A SignedTicket is not for the round: it opens one.
        """
        return self.handler(type(message))(sender, message, now)

    def handler(self, kind: type) -> Handler:
        """What takes (sender, message, now). RemoteError(POLICY_MODE) for a kind of another mode."""
        found = self._handlers().get(kind)
        if found is None:
            raise RemoteError(Reason.POLICY_MODE, kind.__name__, found=self.ticket.mode)
        return found

    def _handlers(self) -> Mapping[type, Handler]:
        """By the kind of message."""
        raise NotImplementedError

    # -- the upload -------------------------------------------------------------------------------

    def begin(self, model_digest: bytes, config_digest: bytes, now: float = 0.0) -> None:
        """Training may run now, or an upload is frozen: once under one ticket, for what the ticket digests.

        RemoteError(MODEL_MISMATCH or CONFIG_MISMATCH) for anything else, and nothing has run. DEADLINE
        after the ready deadline: then there would be less time to train than others have, and who sends the
        message late could choose whose training fails. SECOND_TRAINING where a training began and no upload
        is frozen: a zero now would let whoever ends ClientApps, and asks again, choose who contributes.
        """
        if model_digest != self.ticket.model_digest:
            raise RemoteError(Reason.MODEL_MISMATCH, "the model is not the one in the ticket")
        if config_digest != self.ticket.config_digest:
            raise RemoteError(
                Reason.CONFIG_MISMATCH,
                "the message, the run's configuration or the app is not the one in the ticket",
            )
        if not self._begun and now * 1000 >= self.ticket.deadlines.ready:
            raise RemoteError(
                Reason.DEADLINE,
                "too late to begin with training",
                expected=f"< {self.ticket.deadlines.ready} ms",
                found=int(now * 1000),
            )
        if self._begun and self._frozen is None:
            raise RemoteError(
                Reason.SECOND_TRAINING, "a training under this ticket began before, and did not end"
            )
        self._begun = True

    def masks_available(self, now: float) -> bool:
        """Whether `masks` may be called. RemoteError(TOO_FEW_COUNTING) once they never will be."""
        raise NotImplementedError

    def _check_taking_part(self, now: float, expected: int, found: int, why: str = "") -> None:
        """RemoteError if this peer abstained, with `found` of the `expected` neighbours, or is done."""
        self._advance(now)
        if self.phase is Phase.ABSTAINED:
            raise RemoteError(
                Reason.TOO_FEW_COUNTING,
                f"abstained at the upload deadline{why}",
                expected=expected,
                found=found,
            )
        if self.phase is Phase.CLOSED:
            raise RemoteError(Reason.ROUND_CLOSED, "masks")

    def _check_unspent(self, now: float) -> None:
        """RemoteError unless the round's masks may be given out now, for the first time."""
        if self.phase in (Phase.MASKED, Phase.UPLOADED):
            raise RemoteError(Reason.MASKS_SPENT, "the masks of this round were given out before")
        if not self._begun:
            raise RemoteError(Reason.WRONG_PHASE, "masks before the round was begun")
        if not self.masks_available(now):
            raise RemoteError(Reason.WRONG_PHASE, f"masks in phase {self.phase}")

    def _sign_header(
        self, announcement_hash: bytes, named: tuple[tuple[int, bytes], ...], masked: int = 0
    ) -> Header:
        digest = self.ticket.digest
        signed = header_bytes(digest, self.me, announcement_hash, named, masked)
        return Header(digest, self.me, announcement_hash, named, self._signer(signed), masked)

    def freeze(self, vector: Raw, now: float) -> None:
        """Keeps the one upload of this round, to be resent byte for byte.

        `vector`: the masked ring vector, as long as the ticket says (else RemoteError(WRONG_LENGTH)).
        """
        if self._frozen is None:
            self._before(now, self.ticket.deadlines.upload)
            self.ticket.layout.parse(vector, self._id(self.me))
            self.phase = step(self.phase, Event.FREEZE)
            self._frozen = vector
        elif self._frozen != vector:
            raise RemoteError(Reason.MASKS_SPENT, "another upload was frozen before")

    @property
    def frozen(self) -> Raw | None:
        return self._frozen

    # -- the clock and the network ----------------------------------------------------------------

    def offered(self) -> None:
        """Another peer offers the ticket around: this one need not."""
        self._unoffered.clear()

    def answered(self, call: Call, reply: PeerMessage | None, now: float) -> None:
        """The reply to a call. A reply that is refused counts as a failed call, and is raised."""
        if self.phase is Phase.CLOSED:
            return
        index = self.ticket.index(call.to)
        try:
            self._take_reply(index, call.message, reply)
        except RemoteError:
            self.failed(call, now)
            raise
        self._retries.succeeded((type(call.message), index))
        if isinstance(call.message, SignedTicket):
            self._unoffered.discard(index)
        self._advance(now)

    def _take_reply(self, index: int, sent: PeerRequest, reply: PeerMessage | None) -> None:
        raise NotImplementedError

    def failed(self, call: Call, now: float, reason: Reason | None = None) -> None:
        """The call got no usable reply. Who does not know the ticket is offered it first."""
        kind, index = type(call.message), self.ticket.index(call.to)
        self._retries.failed((kind, index), now)
        if reason is Reason.UNKNOWN_TICKET and kind is not SignedTicket:
            self._unoffered.add(index)
            self._retries.succeeded((SignedTicket, index))

    def next_event(self, now: float) -> float | None:
        """When `calls` has to be asked again even if nothing happens; None once the round is over."""
        if self.phase is Phase.CLOSED:
            return None
        times = [at for at in self._moments(now) if at > now]
        due = self._retries.next_due(now)
        if due is not None:
            times.append(due)
        return min(times, default=now)

    def _moments(self, now: float) -> list[float]:
        """When something is due even if nothing happens, in seconds; those that are past do not matter."""
        return [at / 1000 for at in self.ticket.deadlines.in_order]

    def proven(self) -> list[RemoteError]:
        """What was proven against other peers since this was last asked, beside what was raised."""
        return []

    def close(self) -> None:
        """Drops the round's secrets; every later message is refused."""
        if self.phase is not Phase.CLOSED:
            self.phase = step(self.phase, Event.CLOSE)
        self._frozen = None
        self._wipe()

    def _wipe(self) -> None:
        raise NotImplementedError

    def _confirmed(self, now: float) -> bool:
        """Whether the exchange is done."""
        raise NotImplementedError

    def _advance(self, now: float) -> None:
        milliseconds, deadlines = now * 1000, self.ticket.deadlines
        if milliseconds >= deadlines.unmask:
            self.close()
            return
        if self.phase is Phase.EXCHANGE and self._confirmed(now):
            self.phase = step(self.phase, Event.CONFIRMED)
        if milliseconds >= deadlines.upload and self.phase in (
            Phase.EXCHANGE,
            Phase.READY,
            Phase.MASKED,
        ):
            self.phase = step(self.phase, Event.ABSTAIN)

    def _before(self, now: float, deadline_ms: int) -> None:
        self._advance(now)
        if self.phase is Phase.CLOSED:
            raise RemoteError(Reason.ROUND_CLOSED)
        if now * 1000 >= deadline_ms:
            raise RemoteError(
                Reason.DEADLINE, expected=f"< {deadline_ms} ms", found=int(now * 1000)
            )

    def _neighbour(self, peer: str) -> int:
        index = self.ticket.index(peer)
        if index not in self.neighbours:
            raise RemoteError(Reason.NOT_A_NEIGHBOUR, peer=peer)
        return index

    def _id(self, index: int) -> str:
        return self.ticket.cohort[index]
