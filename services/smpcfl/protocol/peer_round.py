"""One peer's side of one `seeded` round: upload, agree and unmask (docs/protocol.md, sections 8 to 10).

Sans-I/O: `calls` says what to send now, `answered` and `failed` tell what came of it, the other methods
take a message and return the reply.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from . import failures
from .base_round import Handler
from .errors import Reason, RemoteError
from .exchange_round import ExchangeRound
from .keystream import Secret, pair_key, self_key
from .ledger import Ledger
from .masks import SeededMasks
from .messages import (
    Agreement,
    Answer,
    Call,
    Header,
    PeerMessage,
    PeerRequest,
    ShownShare,
    Survivors,
    agreement_bytes,
)
from .neighbour import failure_sums
from .phases import Event, Phase, step
from .policy import Policy
from .signing import Keyring, Signer, check_signature
from .survivors import (
    check_contributors,
    check_earlier,
    check_origin,
    check_survivors,
    count_failures,
)
from .ticket import SignedTicket


class PeerRound(ExchangeRound):
    """State of one round. `agree` is `pair_key`, or does the same."""

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
        agree: Callable[[X25519PrivateKey, bytes, bytes, str, str], Secret] = pair_key,
    ) -> None:
        super().__init__(signed_ticket, me, signer, keyring, entropy, spread=spread)
        self._agree = agree
        self._policy = policy
        self._ledger = ledger or Ledger()
        self._keyring = keyring
        self._survivors: Survivors | None = None
        self._agreement: Agreement | None = None
        self._answer: Answer | None = None

    def _handlers(self) -> Mapping[type, Handler]:
        return {
            **super()._handlers(),
            Agreement: lambda sender, message, now: self.agreement(message, sender),
        }

    def _is_fixed(self) -> bool:
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

    def masks(self, now: float, *, failed: bool = False) -> tuple[SeededMasks, Header]:
        """The round's masks and the signed header; once. RemoteError(MASKS_SPENT) the second time.

        `failed`: training did, and what is masked is a zero.
        """
        self._check_unspent(now)
        counting, secrets = self._counted(), self._open_secrets()
        announcements = {i: self._receipts.announcement(i) for i in counting}
        digest, me = self.ticket.digest, self._id(self.me)
        # Keys before the phase: a neighbour's bad public key must not spend the masks.
        keys = {
            i: self._agree(secrets.private, announcements[i].public_key, digest, me, self._id(i))
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
        known = self._receipts.hashes()
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
        announcements, named = self._receipts.announcements.first, self._named(self._survivors)
        # Of a dealer with two announcements this peer may hold shares of the one that nobody counted.
        held = [j for j in sorted(self._of.held) if (j, announcements[j].hash) in named]
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
        listed = set[int]().union(*(header.counts for header in message.headers))
        return listed - set(message.survivors)

    def _named(self, message: Survivors) -> set[tuple[int, bytes]]:
        """Who is named by which hash of its announcement in survivors' headers, its own among them."""
        own = {(header.sender, header.announcement_hash) for header in message.headers}
        return own.union(*(header.counting for header in message.headers))

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
            due += self._exchange_calls(now, is_due)
        if now * 1000 < deadlines.unmask and self._agreement is not None:
            for index in self.neighbours:
                if not self._of[index].agreed_to and is_due(Agreement, index):
                    due.append(Call(self._id(index), self._agreement))
        return due

    def _take_reply(self, index: int, sent: PeerRequest, reply: PeerMessage | None) -> None:
        if isinstance(sent, Agreement):
            self._of[index].agreed_to = True
        else:
            super()._take_reply(index, sent, reply)

    def _wipe(self) -> None:
        super()._wipe()
        self._answer = None
