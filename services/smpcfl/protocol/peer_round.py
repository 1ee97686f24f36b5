"""One peer's side of one `seeded` round (docs/protocol.md, sections 6 to 10).

Sans-I/O: `calls` says what to send now, `answered` and `failed` tell what came of it, the other methods
take a message and return the reply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from . import failures
from .announcement import Announcement, confirmation_bytes
from .base_round import BaseRound, Handler
from .dealing import Secrets, check_dealt, check_ready, deal, make_ready
from .errors import Reason, RemoteError
from .keystream import check_public_key, pair_key, self_key
from .ledger import Ledger
from .masks import SeededMasks
from .messages import (
    Acknowledge,
    Agreement,
    Answer,
    Call,
    Exchange,
    Header,
    PeerMessage,
    PeerRequest,
    Ready,
    ReadyReply,
    ShownShare,
    Survivors,
    agreement_bytes,
)
from .neighbour import Neighbours, failure_sums
from .phases import Event, Phase, step
from .policy import Policy
from .retry import LONGEST_S
from .signing import Keyring, Signer, check_signature
from .survivors import (
    check_contributors,
    check_earlier,
    check_origin,
    check_survivors,
    count_failures,
)
from .ticket import SignedTicket

OFFER_AFTER_S = 3.0  # a lower id that has not called by then may not have the ticket
YIELD_S = 0.25  # how long a higher id waits for the ready of a lower one before it sends its own


class PeerRound(BaseRound):
    """State of one round."""

    def __init__(
        self,
        signed_ticket: SignedTicket,
        me: str,
        policy: Policy,
        signer: Signer,
        keyring: Keyring,
        entropy: Callable[[int], bytes],
        *,
        ledger: Ledger | None = None,
        spread: float | None = None,
    ) -> None:
        super().__init__(signed_ticket, me, signer, spread=spread)
        self._policy = policy
        self._ledger = ledger or Ledger()
        self._keyring = keyring
        self._of = Neighbours()
        self._counting: tuple[int, ...] = ()
        self._survivors: Survivors | None = None
        self._agreement: Agreement | None = None
        self._answer: Answer | None = None
        self._secrets: Secrets | None = self._deal(entropy)
        for index in self.neighbours:
            if index < self.me and spread is None:
                self._retries.defer((SignedTicket, index), OFFER_AFTER_S)

    def _handlers(self) -> Mapping[type, Handler]:
        return {
            Exchange: self.exchange,
            Acknowledge: self.acknowledge,
            Ready: self.ready,
            Agreement: lambda sender, message, now: self.agreement(message, sender),
        }

    # -- exchange -------------------------------------------------------------------------------

    def _deal(self, entropy: Callable[[int], bytes]) -> Secrets:
        self.announcement, secrets = deal(self.ticket, self.me, self._signer, entropy)
        return secrets

    def exchange(self, sender: str, message: Exchange, now: float) -> Exchange:
        """A lower id's announcement and shares; returns our own, with the confirmation of theirs."""
        index = self._neighbour(sender)
        self._before(now, self.ticket.deadlines.upload)
        if index > self.me:
            raise RemoteError(
                Reason.MALFORMED, "exchange goes from lower to higher id", peer=sender
            )
        confirmation = self._take_shares(index, message)
        return Exchange(self.announcement, self._open_secrets().dealt[index], confirmation)

    def _take_shares(self, index: int, message: Exchange) -> bytes:
        self._know(index, message.announcement)
        check_dealt(self.ticket, self.me, message.announcement, message.dealt)
        neighbour = self._of[index]
        # The first one stands: the root covers the other shares, and the call may be repeated.
        if neighbour.dealt is None:
            neighbour.dealt, neighbour.failure_share = message.dealt, message.dealt.failure_share
        return self._signer(confirmation_bytes(message.announcement.hash, self.me))

    def _know(self, index: int, announcement: Announcement) -> None:
        known = self._of[index].announcement
        if known is None:
            announcement.check(self.ticket, self._keyring)
            if announcement.dealer != index:
                raise RemoteError(Reason.MALFORMED, "another's announcement", peer=self._id(index))
            check_public_key(announcement.public_key, self._id(index))
            self._of[index].announcement = announcement
        elif known.hash != announcement.hash:
            raise RemoteError(Reason.EQUIVOCATION, "two announcements", peer=self._id(index))

    def acknowledge(self, sender: str, message: Acknowledge, now: float) -> None:
        """A lower id's confirmation of our announcement."""
        index = self._neighbour(sender)
        self._before(now, self.ticket.deadlines.upload)
        self._take_confirmation(index, message.confirmation)
        self._advance(now)

    def _take_confirmation(self, index: int, signature: bytes) -> None:
        signed = confirmation_bytes(self.announcement.hash, index)
        check_signature(self._keyring, self._id(index), signed, signature, "confirmation")
        self._of[index].confirmation = signature

    # -- ready ----------------------------------------------------------------------------------

    def ready(self, sender: str, message: Ready, now: float) -> ReadyReply:
        """A neighbour's ready; returns our own if we are ready, and whether the pair counts."""
        index = self._neighbour(sender)
        self._before(now, self.ticket.deadlines.upload)
        self._take_ready(index, message)
        self._advance(now)
        if self._is_fixed():
            return ReadyReply(counted=index in self._counting)
        if self.phase is Phase.READY:
            self._of[index].ready_sent = True
            has_it = self._of[index].took_ready
            return ReadyReply(counted=True, ready=None if has_it else self._own_ready(index))
        return ReadyReply(counted=True)

    def _take_ready(self, index: int, message: Ready) -> None:
        neighbour = self._of[index]
        if message.announcement is not None:
            self._know(index, message.announcement)
            if neighbour.failure_share is None:
                neighbour.failure_share = message.failure_share
        known, held = neighbour.announcement, neighbour.dealt is not None
        if known is None:
            raise RemoteError(Reason.WRONG_PHASE, "ready before exchange", peer=self._id(index))
        if neighbour.ready:
            return
        check_ready(self.ticket, self._keyring, known, self.me, held, message)
        if not self._is_fixed():
            neighbour.ready = True

    def _own_ready(self, to: int) -> Ready:
        share = self._open_secrets().dealt[to].failure_share
        return make_ready(self.ticket, self.announcement, self._of.confirmations, to, share)

    def _is_fixed(self) -> bool:
        """Whether the set of counting neighbours can no longer grow."""
        return self.phase not in (Phase.EXCHANGE, Phase.READY)

    # -- upload ---------------------------------------------------------------------------------

    def masks_available(self, now: float) -> bool:
        self._check_taking_part(now, self.ticket.threshold, len(self._counted()))
        if self.phase in (Phase.AGREED, Phase.ANSWERED):
            raise RemoteError(Reason.WRONG_PHASE, f"masks in phase {self.phase}")
        if self.phase is not Phase.READY:
            return False
        late = now * 1000 >= self.ticket.deadlines.ready
        return self.all_count or (late and len(self._counted()) >= self.ticket.threshold)

    @property
    def all_count(self) -> bool:
        """Whether every neighbour counts."""
        return len(self._counted()) == len(self.neighbours)

    def _counted(self) -> tuple[int, ...]:
        return tuple(i for i in self.neighbours if self._of[i].ready and self._of[i].ready_sent)

    def masks(self, now: float, *, failed: bool = False) -> tuple[SeededMasks, Header]:
        """The round's masks and the signed header; once. RemoteError(MASKS_SPENT) the second time.

        `failed`: training did, and what is masked is a zero.
        """
        self._check_unspent(now)
        counting = self._counted()
        secrets, announcements = self._open_secrets(), self._of.announcements
        digest, me = self.ticket.digest, self._id(self.me)
        # Keys before the phase: a neighbour's bad public key must not spend the masks.
        keys = {
            i: pair_key(secrets.private, announcements[i].public_key, digest, me, self._id(i))
            for i in counting
        }
        self.phase, self._counting = step(self.phase, Event.MASK), counting
        named = tuple((index, announcements[index].hash) for index in counting)
        masked = failures.hide(failed, secrets.failure_mask)
        self.header = self._sign_header(self.announcement.hash, named, masked)
        masks = SeededMasks(
            self_key(secrets.self_seed, digest, me),
            tuple(key for index, key in keys.items() if index > self.me),
            tuple(key for index, key in keys.items() if index < self.me),
        )
        return masks, self.header

    # -- agree and unmask -------------------------------------------------------------------------

    def survivors(self, message: Survivors, now: float) -> None:
        """The aggregator's survivor set: signs it for the neighbours, or refuses it."""
        if self.phase is Phase.CLOSED:
            raise RemoteError(Reason.ROUND_CLOSED, "survivors")
        if (kept := self._survivors) is not None:
            check_origin(self.ticket, self._keyring, message)
            if (message.survivors, message.headers_digest) != (kept.survivors, kept.headers_digest):
                raise RemoteError(Reason.SECOND_SURVIVOR_SET, "another survivor set in this round")
            return
        self._before(now, self.ticket.deadlines.agree)
        known = {index: item.hash for index, item in self._of.announcements.items()}
        known[self.me] = self.announcement.hash
        found = check_survivors(
            self.ticket, self._policy, self._keyring, message, known, self.header
        )
        if self.me in message.survivors and self._frozen is None:
            raise RemoteError(Reason.WRONG_PHASE, "counted as a survivor without an upload")
        phase = step(self.phase, Event.SURVIVORS)
        earlier = self._ledger.agree(self.ticket, message.survivors, self._policy)
        self.phase = phase
        self._survivors = message
        total = self._failure_sum(message.survivors)
        digest = self.ticket.digest
        signed = agreement_bytes(digest, found, self.me, total, earlier)
        self._agreement = Agreement(digest, found, self.me, self._signer(signed), total, earlier)

    def _failure_sum(self, survivors: tuple[int, ...]) -> int | None:
        """Of the shares of r_i over the survivors; None where one is missing."""
        return self._of.failure_sum(survivors, {self.me: self._open_secrets().failure_share})

    def agreement(self, message: Agreement, sender: str = "") -> None:
        """A neighbour's agreement; kept also when it comes early.

        `sender`: who sent it, over mutual TLS. From whoever relays it, it needs its signature.
        """
        if message.ticket_digest != self.ticket.digest:
            raise RemoteError(Reason.UNKNOWN_TICKET, "agreement")
        if self.phase is Phase.CLOSED:
            raise RemoteError(Reason.ROUND_CLOSED, "agreement")
        if message.peer not in self.neighbours:
            raise RemoteError(Reason.NOT_A_NEIGHBOUR, "agreement", found=message.peer)
        peer = self._id(message.peer)
        if sender != peer:
            check_signature(
                self._keyring, peer, message.signed_bytes, message.signature, "agreement"
            )
        first = self._of[message.peer].agreement
        if first is None:
            self._of[message.peer].agreement = message
        elif not first.says_the_same(message):
            raise RemoteError(Reason.EQUIVOCATION, "two agreements", peer=peer)

    def answer(self, now: float) -> Answer | None:
        """The unmask answer once t neighbours agreed and the failures are counted, None before.

        RemoteError: TOO_FEW_AGREEMENTS once the agree deadline has passed, TOO_FEW_CONTRIBUTORS where
        training failed on too many.
        """
        self._before(now, self.ticket.deadlines.unmask)
        if self._answer is not None:
            return self._answer
        if self._survivors is None or self._agreement is None:
            raise RemoteError(Reason.WRONG_PHASE, f"answer in phase {self.phase}")
        agreed = self._of.agreed(self._agreement.survivors_digest)
        sums = failure_sums((self._agreement, *agreed))
        if len(agreed) < self.ticket.threshold or len(sums) <= self.ticket.threshold:
            if now * 1000 >= self.ticket.deadlines.agree:
                raise RemoteError(
                    Reason.TOO_FEW_AGREEMENTS,
                    f"{len(sums)} with a count of failures, {self.ticket.threshold + 1} needed",
                    expected=self.ticket.threshold,
                    found=len(agreed),
                )
            return None
        check_earlier((self._agreement, *agreed))
        failed = count_failures(self.ticket, self._survivors, sums)
        check_contributors(self.ticket, self._policy, self._survivors, failed)
        self._ledger.answer(self.ticket, failed)
        self.phase = step(self.phase, Event.ANSWER)
        chosen, dropped = set(self._survivors.survivors), self._dropped(self._survivors)
        held, announcements = sorted(self._of.held), self._of.announcements
        self._answer = Answer(
            self.ticket.digest,
            self.me,
            tuple(self._show(j, "self") for j in held if j in chosen),
            tuple(self._show(j, "pair") for j in held if j in dropped),
            tuple(announcements[j] for j in held if j in dropped),
        )
        return self._answer

    def _dropped(self, message: Survivors) -> set[int]:
        """Peers outside U whom a survivor lists: only their pair secrets are missing."""
        listed = {index for header in message.headers for index in header.counts}
        return listed - set(message.survivors)

    def _show(self, dealer: int, kind: str) -> ShownShare:
        holder = self.ticket.neighbours[dealer].index(self.me) + 1
        return self._of[dealer].shown(kind, dealer, holder)

    # -- the clock and the network ----------------------------------------------------------------

    def calls(self, now: float) -> list[Call]:
        """The calls that are due now; each is in flight until `answered` or `failed`."""
        self._advance(now)
        self._retries.look(now)
        deadlines, due = self.ticket.deadlines, list[Call]()

        def is_due(kind: type, index: int) -> bool:
            return self._retries.start((kind, index), now)

        if now * 1000 < deadlines.upload and self._survivors is None:
            due += self._exchange_calls(is_due)
        if now * 1000 < deadlines.unmask and self._agreement is not None:
            for index in self.neighbours:
                if not self._of[index].agreed_to and is_due(Agreement, index):
                    due.append(Call(self._id(index), self._agreement))
        return due

    def _exchange_calls(self, is_due: Callable[[type, int], bool]) -> Iterator[Call]:
        # Asked after every message: a call that is not due is neither signed nor put together.
        secrets = self._secrets
        if secrets is None:
            return
        for index in self.neighbours:
            to, neighbour = self._id(index), self._of[index]
            if index in self._unoffered:
                if is_due(SignedTicket, index):
                    yield Call(to, self.signed_ticket)
                continue
            if index < self.me and neighbour.announcement is None:
                if is_due(SignedTicket, index):
                    yield Call(to, self.signed_ticket)
            elif index > self.me and not neighbour.confirmation and is_due(Exchange, index):
                yield Call(to, Exchange(self.announcement, secrets.dealt[index]))
            if neighbour.owed and neighbour.announcement and is_due(Acknowledge, index):
                signed = confirmation_bytes(neighbour.announcement.hash, self.me)
                yield Call(to, Acknowledge(self.ticket.digest, self._signer(signed)))
            if self.phase is Phase.READY and not neighbour.ready_sent and is_due(Ready, index):
                yield Call(to, self._own_ready(index))

    def answered(self, call: Call, reply: PeerMessage | None, now: float) -> None:
        super().answered(call, reply, now)
        if isinstance(call.message, SignedTicket) and self.phase is not Phase.CLOSED:
            # It has the ticket now and calls, if that is its part; if it does not, it hears again.
            self._retries.failed((SignedTicket, self.ticket.index(call.to)), now + LONGEST_S)

    def _take_reply(self, index: int, sent: PeerRequest, reply: PeerMessage | None) -> None:
        neighbour = self._of[index]
        if isinstance(sent, Exchange) and isinstance(reply, Exchange):
            self._take_confirmation(index, reply.confirmation)
            self._take_shares(index, reply)
            neighbour.owed = True
        elif isinstance(sent, Acknowledge):
            neighbour.owed = False
        elif isinstance(sent, Ready) and isinstance(reply, ReadyReply):
            if reply.ready is not None:
                self._take_ready(index, reply.ready)
            if reply.counted:
                neighbour.took_ready = True
                if not self._is_fixed():
                    neighbour.ready_sent = True
            else:
                neighbour.ready = False
        elif isinstance(sent, Agreement):
            neighbour.agreed_to = True
        elif not isinstance(sent, SignedTicket):
            raise RemoteError(Reason.MALFORMED, "reply of another kind", peer=self._id(index))

    def _wipe(self) -> None:
        self._secrets = None
        self._of.forget_secrets()
        self._answer = None

    def _confirmed(self, now: float) -> bool:
        late = now * 1000 >= self.ticket.deadlines.exchange
        enough = self.ticket.threshold if late else len(self.neighbours)
        if len(self._of.confirmations) < enough:
            return False
        for index in self.neighbours:
            if index < self.me and not self._of[index].ready:
                # Else both would send theirs, and each the other's again in the reply.
                self._retries.defer((Ready, index), now + YIELD_S)
        return True

    def _open_secrets(self) -> Secrets:
        if self._secrets is None:
            raise RemoteError(Reason.ROUND_CLOSED, "the round's secrets are gone")
        return self._secrets
