"""One peer's side of one `additive` round: n-of-n additive sharing with full-size shares.

The peer draws one uniform vector for each other peer, keeps the residual, and uploads the sum of what it
holds. Any peer that is lost voids the round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .base_round import BaseRound, Handler
from .encoding import DIGEST_BYTES
from .errors import Reason, RemoteError
from .keystream import Secret, add_keystreams, expand
from .masks import AdditiveMasks
from .messages import AdditiveShare, Call, Header, PeerMessage, PeerRequest
from .phases import Event, Phase, step
from .ring import RingVector
from .signing import Signer
from .ticket import SignedTicket

NO_ANNOUNCEMENT = bytes(DIGEST_BYTES)


class AdditivePeerRound(BaseRound):
    """Same shape as `PeerRound`; there is no ready, agree or unmask."""

    def __init__(
        self,
        signed_ticket: SignedTicket,
        me: str,
        signer: Signer,
        entropy: Callable[[int], bytes],
        *,
        spread: float | None = None,
    ) -> None:
        super().__init__(signed_ticket, me, signer, spread=spread)
        # 32 fresh bytes for each share: expanded when it is sent, so memory does not grow with n*m.
        self._seeds = {index: Secret(entropy(32)) for index in self.neighbours}
        self._received: set[int] = set()
        self._delivered: set[int] = set()
        self._sum: RingVector = self.ticket.layout.zeros()

    def _handlers(self) -> Mapping[type, Handler]:
        return {AdditiveShare: self.share}

    def share(self, sender: str, message: AdditiveShare, now: float) -> None:
        """Another peer's share. A second one changes nothing: the call may be repeated."""
        if message.ticket_digest != self.ticket.digest:
            raise RemoteError(Reason.UNKNOWN_TICKET, "share")
        index = self.ticket.index(sender)
        self._advance(now)
        if self.phase in (Phase.CLOSED, Phase.ABSTAINED):
            raise RemoteError(Reason.ROUND_CLOSED, "share")
        vector = self.ticket.layout.parse(message.vector, sender)
        if self._neighbour(sender) not in self._received:
            self._received.add(index)
            self._sum += vector
        self._advance(now)

    @property
    def all_count(self) -> bool:
        """Whether all shares went to, and came from, everyone else."""
        return self._received & self._delivered == set(self.neighbours)

    def masks_available(self, now: float) -> bool:
        found = len(self._received & self._delivered)
        self._check_taking_part(now, len(self.neighbours), found, ": shares are missing")
        return self.phase is Phase.READY

    def masks(self, now: float, *, failed: bool = False) -> tuple[AdditiveMasks, Header]:
        """Shares received minus shares given, and the signed header; once.

        `failed` is of no account here: how many contributed is known from the sum alone.
        """
        del failed
        self._check_unspent(now)
        self.phase = step(self.phase, Event.MASK)
        total = self._sum
        add_keystreams(total, (), self._seeds.values())
        self.header = self._sign_header(NO_ANNOUNCEMENT, ())
        self._sum = self.ticket.layout.zeros()
        return AdditiveMasks(total.raw), self.header

    def calls(self, now: float) -> list[Call]:
        """The shares that are due now; each is in flight until `answered` or `failed`."""
        self._advance(now)
        self._retries.look(now)
        due = list[Call]()
        if self.phase in (Phase.CLOSED, Phase.ABSTAINED):
            return due
        for index, seed in self._seeds.items():
            if index in self._unoffered:
                if self._retries.start((SignedTicket, index), now):
                    due.append(Call(self._id(index), self.signed_ticket))
            elif index not in self._delivered and self._retries.start((AdditiveShare, index), now):
                vector = expand(seed, self.ticket.layout).tobytes()
                due.append(Call(self._id(index), AdditiveShare(self.ticket.digest, vector)))
        return due

    def _take_reply(self, index: int, sent: PeerRequest, reply: PeerMessage | None) -> None:
        if isinstance(sent, AdditiveShare):
            self._delivered.add(index)

    def _wipe(self) -> None:
        self._seeds = {}
        self._sum = self.ticket.layout.zeros()

    def _confirmed(self, now: float) -> bool:
        return self.all_count
