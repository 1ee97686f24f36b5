"""Whether a peer takes part in the round of a ticket."""

from __future__ import annotations

from dataclasses import dataclass, field

from .errors import Reason, RemoteError
from .grouping import Grouping
from .ledger import Ledger
from .policy import Policy
from .signing import AGGREGATOR, Keyring
from .ticket import HOUR_MS, SignedTicket


@dataclass(frozen=True)
class Admission:
    """What a peer checks before it takes part in a round."""

    me: str
    policy: Policy
    keyring: Keyring = field(repr=False)
    ledger: Ledger = field(default_factory=Ledger, repr=False)
    grouping: Grouping = field(default_factory=Grouping, repr=False)

    def check(
        self, signed: SignedTicket, *, highest_serial: int, running: bytes | None, now_ms: int
    ) -> bool:
        """True for a new ticket to be followed, False for the very ticket now running.

        `highest_serial`: the highest serial that this peer ever accepted; `running`: digest of the
        ticket of the open round, if any; `now_ms`: Unix milliseconds. RemoteError otherwise.
        """
        ticket = signed.ticket
        if not self.keyring.verify(AGGREGATOR, ticket.signed_bytes, signed.signature):
            raise RemoteError(Reason.BAD_SIGNATURE, "ticket", peer=AGGREGATOR)
        if ticket.digest == running:
            return False
        if self.me not in ticket.cohort:
            raise RemoteError(Reason.NOT_IN_COHORT, "ticket", peer=self.me)
        self.policy.check(ticket)
        self.grouping.check(ticket, now_ms / 1000)
        if ticket.serial <= highest_serial:
            raise RemoteError(
                Reason.STALE_SERIAL, expected=f"> {highest_serial}", found=ticket.serial
            )
        if ticket.serial > now_ms + HOUR_MS:
            raise RemoteError(
                Reason.FUTURE_SERIAL, expected=f"<= {now_ms + HOUR_MS}", found=ticket.serial
            )
        self.ledger.check(ticket, self.policy, now_ms)
        return True
