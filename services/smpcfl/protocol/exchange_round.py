"""The first half of a peer's `seeded` round: exchange and ready (docs/protocol.md, sections 6 and 7)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from .announcement import Announcement, Equivocation
from .base_round import BaseRound, Handler
from .dealing import Secrets, check_dealt, deal
from .errors import Reason, RemoteError
from .messages import (
    Call,
    Exchange,
    PeerMessage,
    PeerRequest,
    Ready,
    ReadyReply,
)
from .neighbour import Neighbours
from .phases import Phase
from .receipts import MOST_RECEIPTS, ListReply, ListRequest, Receipts
from .retry import LONGEST_S
from .signing import Keyring, Signer
from .ticket import SignedTicket

OFFER_AFTER_S = 3.0  # a lower id that has not called by then may not have the ticket
YIELD_S = 0.25  # how long a higher id waits for the ready of a lower one before it sends its own
# After the exchange deadline, when receipts are on their way: whoever still lacks some asks around, and
# again every LONGEST_S.
LACKING_AFTER_S = 1.0
MOST_QUESTIONS = 4  # at a time: the answer to one is mostly the answer to all


class ExchangeRound(BaseRound):
    """Who has whose shares, and which neighbours count."""

    def __init__(
        self,
        signed_ticket: SignedTicket,
        me: str,
        signer: Signer,
        keyring: Keyring,
        entropy: Callable[[int], bytes],
        *,
        spread: float | None = None,
    ) -> None:
        super().__init__(signed_ticket, me, signer, spread=spread)
        self._of = Neighbours()
        self._secrets: Secrets | None = self._deal(entropy)
        self._receipts = Receipts(self.ticket, self.me, keyring, signer, self.announcement)
        self._awaited = set(self.neighbours)  # whose shares have not come
        self._counting: tuple[int, ...] = ()
        self._questions = set[int]()  # to whom a question about a list is in flight
        self._reported = set[int]()  # the dealers of whose second announcement somebody was told
        deadlines = self.ticket.deadlines
        exchange_s, ready_s = deadlines.exchange / 1000, deadlines.ready / 1000
        self._signing_s = (exchange_s, (exchange_s + ready_s) / 2, ready_s)
        self._lacking_s = exchange_s + LACKING_AFTER_S
        for index in self.neighbours:
            if index < self.me and spread is None:
                self._retries.defer((SignedTicket, index), OFFER_AFTER_S)

    def _deal(self, entropy: Callable[[int], bytes]) -> Secrets:
        self.announcement, secrets = deal(self.ticket, self.me, self._signer, entropy)
        return secrets

    def _handlers(self) -> Mapping[type, Handler]:
        return {
            Exchange: self.exchange,
            Ready: self.ready,
            ListRequest: self.show_list,
        }

    # -- exchange -------------------------------------------------------------------------------

    def exchange(self, sender: str, message: Exchange, now: float) -> Exchange:
        """A lower id's announcement and shares; returns our own."""
        index = self._neighbour(sender)
        self._before(now, self.ticket.deadlines.upload)
        if index > self.me:
            raise RemoteError(
                Reason.MALFORMED, "exchange goes from lower to higher id", peer=sender
            )
        self._take_shares(index, message)
        self._advance(now)
        return Exchange(self.announcement, self._open_secrets().dealt[index])

    def _take_shares(self, index: int, message: Exchange) -> None:
        self._know(index, message.announcement)
        check_dealt(self.ticket, self.me, message.announcement, message.dealt)
        neighbour = self._of[index]
        # The first ones stand: the root covers them, and the call may be repeated.
        if neighbour.dealt is None:
            neighbour.dealt, neighbour.failure_share = message.dealt, message.dealt.failure_share
            self._awaited.discard(index)

    def _know(self, index: int, announcement: Announcement) -> None:
        """A neighbour's announcement, from itself."""
        if announcement.dealer != index:
            raise RemoteError(Reason.MALFORMED, "another's announcement", peer=self._id(index))
        known = self._receipts.announcements
        first = known.first.get(index, announcement)
        if index not in known.equivocations:  # else a third one would fill the memory
            self._receipts.learn(announcement)
        if first.hash != announcement.hash:
            self._reported.add(index)
            raise RemoteError(Reason.EQUIVOCATION, "two announcements", peer=self._id(index))

    def _confirmed(self, now: float) -> bool:
        return not self._awaited or now >= self._signing_s[0]

    # -- receipts -------------------------------------------------------------------------------

    def _advance(self, now: float) -> None:
        super()._advance(now)
        if self.phase is Phase.READY:
            self._sign_receipt(now)

    def _sign_receipt(self, now: float) -> None:
        """The first one, or the next where more was confirmed: once all are, or as each moment passes."""
        own = self._receipts.own
        number, before = (0, ()) if own is None else (own.number, own.dealers)
        if number == MOST_RECEIPTS or len(before) == len(self.ticket.cohort):
            return
        # Asked after every message: what is held is not gathered before it is time.
        if not self._awaited or number < sum(now >= at for at in self._signing_s):
            held = self._of.held.keys()
            if not number or held - set(before):
                self._receipts.sign(held)

    def show_list(self, sender: str, message: ListRequest, now: float) -> ListReply:
        """What is behind a receipt that this peer sent."""
        self._neighbour(sender)
        self._before(now, self.ticket.deadlines.upload)
        return self._receipts.show(message)

    # -- ready ----------------------------------------------------------------------------------

    def ready(self, sender: str, message: Ready, now: float) -> ReadyReply:
        """A neighbour's receipt; returns our own, whether the pair counts, and what the other lacks."""
        index = self._neighbour(sender)
        self._before(now, self.ticket.deadlines.upload)
        for proof in message.proofs:
            self._take_proof(index, proof)
        self._take_said(index, message)
        self._advance(now)
        return self._reply_to(index, message)

    def _take_said(self, index: int, message: Ready | ReadyReply) -> None:
        neighbour = self._of[index]
        if message.announcement is not None:
            self._know(index, message.announcement)
            if neighbour.failure_share is None:
                neighbour.failure_share = message.failure_share
        if message.receipt is not None:
            self._receipts.take(index, message.receipt)
        neighbour.heard = True
        neighbour.says = neighbour.says or message.counts

    def _take_proof(self, index: int, proof: Equivocation) -> None:
        self._of[index].warned.add(proof.dealer)
        if proof.dealer in self._receipts.announcements.equivocations:
            return
        try:
            self._receipts.learn(proof.one)
            self._receipts.learn(proof.other)
        except RemoteError as error:
            # It is not the dealer's word, so it is whoever sent it that is named.
            raise RemoteError(error.reason, "no proof", peer=self._id(index)) from error

    def _reply_to(self, index: int, message: Ready) -> ReadyReply:
        neighbour, own = self._of[index], self._receipts.own
        counts = self._says(index)
        neighbour.calls += message.counts
        neighbour.replied = neighbour.replied or (counts and message.counts)
        self._retries.forget((Ready, index))  # the reply says it all
        if own is not None and own.number > message.has:
            neighbour.delivered = own.number  # if the reply is lost the call comes again
        else:
            own = None
        relays = () if message.have is None else self._receipts.newer(message.have, index)
        announcement, share = self._introduction(index)
        return ReadyReply(own, counts, self._is_fixed(), relays, announcement, share)

    def _introduction(self, to: int) -> tuple[Announcement | None, int]:
        """This peer's announcement and failure share, where `to` is not known to have its shares."""
        taken = to > self.me and self._of[to].dealt is not None  # it answered the exchange
        if taken or self._receipts.confirms(to, self.me):
            return None, 0
        return self.announcement, self._open_secrets().dealt[to].failure_share

    def _says(self, index: int) -> bool:
        """Whether the pair counts for this peer, as far as receipts go; final once masks are given out."""
        if self._is_fixed():
            return index in self._counting
        if self._receipts.own is None or not self._of[index].heard:
            return False
        return self._receipts.is_ready(self.me) and self._receipts.is_ready(index)

    def _counted(self) -> tuple[int, ...]:
        """The neighbours that count: both say so, and both heard it."""
        return tuple(
            i for i in self.neighbours if self._of[i].says and self._of[i].knows and self._says(i)
        )

    @property
    def all_count(self) -> bool:
        """Whether every neighbour counts, but for those who never will: who made two announcements."""
        counted, never = set(self._counted()), self._receipts.announcements.equivocations.keys()
        return len(counted) >= self.ticket.threshold and counted | never >= set(self.neighbours)

    def _is_fixed(self) -> bool:
        """Whether the set of counting neighbours can no longer change."""
        raise NotImplementedError

    def proven(self) -> list[RemoteError]:
        dealers = self._receipts.announcements.equivocations.keys() - self._reported
        self._reported |= dealers
        return [
            RemoteError(Reason.EQUIVOCATION, "two announcements", peer=self._id(index))
            for index in sorted(dealers)
        ]

    # -- the clock and the network ----------------------------------------------------------------

    def _moments(self, now: float) -> list[float]:
        moments = super()._moments(now)
        if self.phase is Phase.READY:
            next_wave = self._lacking_s + self._wave(now) * LONGEST_S
            moments += [*self._signing_s, next_wave]
        return moments

    def _wave(self, now: float) -> int:
        """How many times it was time to ask for receipts, if any are lacking."""
        if now < self._lacking_s:
            return 0
        return 1 + int((now - self._lacking_s) // LONGEST_S)

    def _exchange_calls(self, now: float, is_due: Callable[[type, int], bool]) -> Iterator[Call]:
        # Asked after every message: a call that is not due is neither signed nor put together.
        secrets = self._secrets
        if secrets is None:
            return
        wave = self._wave(now) if self.phase is Phase.READY else 0
        wave = wave if wave and self._receipts.may_lack() else 0
        for index in self.neighbours:
            to = self._id(index)
            if index in self._unoffered:
                if is_due(SignedTicket, index):
                    yield Call(to, self.signed_ticket)
                continue
            if index < self.me and index not in self._receipts.announcements.first:
                if is_due(SignedTicket, index):
                    yield Call(to, self.signed_ticket)
            elif index > self.me and self._of[index].dealt is None and is_due(Exchange, index):
                yield Call(to, Exchange(self.announcement, secrets.dealt[index]))
            if self._wants_ready(index, wave):
                if index < self.me and not self._of[index].says:
                    # Else both would call, and say the same.
                    self._retries.defer((Ready, index), now + YIELD_S)
                if is_due(Ready, index):
                    yield Call(to, self._ready_for(index, wave))
        for index, receipt in self._receipts.doubted(late=now >= self._lacking_s):
            if len(self._questions) < MOST_QUESTIONS and is_due(ListRequest, index):
                self._questions.add(index)
                yield Call(self._id(index), self._receipts.question(receipt))

    def _wants_ready(self, index: int, wave: int) -> bool:
        """Whether there is something to say to this neighbour, or to ask of it in this `wave`."""
        if self.phase is not Phase.READY:
            return False
        neighbour, proofs = self._of[index], self._receipts.announcements.equivocations
        if wave > neighbour.asked:
            return True
        if neighbour.closed:
            return False
        if proofs and proofs.keys() - neighbour.warned:
            return True
        if self._receipts.number(self.me) > neighbour.delivered:
            return True
        return not neighbour.knows and self._says(index)

    def _ready_for(self, index: int, wave: int) -> Ready:
        neighbour, own = self._of[index], self._receipts.own
        assert own is not None
        proofs = self._receipts.announcements.equivocations
        announcement, share = self._introduction(index)
        return Ready(
            self.ticket.digest,
            receipt=own if own.number > neighbour.delivered else None,
            # Until it was answered: said again it means that the reply was lost.
            counts=self._says(index) and not neighbour.told,
            has=self._receipts.number(index),
            have=self._receipts.numbers if wave > neighbour.asked else None,
            proofs=tuple(proofs[i] for i in sorted(proofs.keys() - neighbour.warned)),
            announcement=announcement,
            failure_share=share,
        )

    def answered(self, call: Call, reply: PeerMessage | None, now: float) -> None:
        self._ended(call)
        super().answered(call, reply, now)
        if isinstance(call.message, SignedTicket) and self.phase is not Phase.CLOSED:
            # It has the ticket now and calls, if that is its part; if it does not, it hears again.
            self._retries.failed((SignedTicket, self.ticket.index(call.to)), now + LONGEST_S)
        if isinstance(call.message, Ready) and call.message.have is not None:
            self._of[self.ticket.index(call.to)].asked = self._wave(now)

    def failed(self, call: Call, now: float, reason: Reason | None = None) -> None:
        self._ended(call)
        super().failed(call, now, reason)

    def _ended(self, call: Call) -> None:
        if isinstance(call.message, ListRequest):
            self._questions.discard(self.ticket.index(call.to))

    def _take_reply(self, index: int, sent: PeerRequest, reply: PeerMessage | None) -> None:
        if isinstance(sent, Exchange) and isinstance(reply, Exchange):
            self._take_shares(index, reply)
        elif isinstance(sent, Ready) and isinstance(reply, ReadyReply):
            self._take_ready_reply(index, sent, reply)
        elif isinstance(sent, ListRequest) and isinstance(reply, ListReply):
            self._receipts.take_list(index, sent, reply)
        elif not isinstance(sent, SignedTicket):
            raise RemoteError(Reason.MALFORMED, "reply of another kind", peer=self._id(index))

    def _take_ready_reply(self, index: int, sent: Ready, reply: ReadyReply) -> None:
        self._take_said(index, reply)
        for receipt in reply.relays:
            self._receipts.take(index, receipt)
        neighbour = self._of[index]
        if sent.receipt is not None:
            neighbour.delivered = max(neighbour.delivered, sent.receipt.number)
        neighbour.warned |= {proof.dealer for proof in sent.proofs}
        neighbour.told = neighbour.told or sent.counts
        if reply.closed:
            neighbour.closed, neighbour.says = True, reply.counts

    def _wipe(self) -> None:
        self._secrets = None
        self._of.forget_secrets()

    def _open_secrets(self) -> Secrets:
        if self._secrets is None:
            raise RemoteError(Reason.ROUND_CLOSED, "the round's secrets are gone")
        return self._secrets
