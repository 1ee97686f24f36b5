"""An in-memory cohort whose peers follow a ticket only if they would as agents: policy, serial and ledger."""

from __future__ import annotations

from dataclasses import dataclass, field

from smpcfl.protocol.admission import Admission
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.grouping import Drawn, Grouping
from smpcfl.protocol.ledger import Ledger
from smpcfl.protocol.policy import Policy
from smpcfl.protocol.ticket import SEEDED
from support.network import Network, Round

NOW_MS = 10**12


@dataclass
class Refusing(Network):
    """A peer to whom making its round is refused takes no part."""

    def start(self) -> None:
        self._lose("ticket")
        for peer in sorted(self.alive):
            try:
                self.rounds[peer] = self._round(peer)
            except RemoteError as error:
                self.errors.append((peer, error))

    @property
    def refusals(self) -> list[Reason]:
        return [error.reason for _, error in self.errors if isinstance(error, RemoteError)]


@dataclass
class Remembering(Refusing):
    """Give the same `ledgers` to all rounds of one deployment: by peer id, new ones where there is none."""

    policy: Policy = field(default_factory=Policy)
    ledgers: dict[str, Ledger] = field(default_factory=dict)
    now_ms: int = NOW_MS
    drawn: Drawn = field(default_factory=Drawn)
    """What all of them were told of the draw, if there was one."""

    def _round(self, peer: str, **options: float | None) -> Round:
        ledger = self.ledgers.setdefault(peer, Ledger())
        grouping = Grouping(peer, self.drawn)
        admission = Admission(peer, self.policy, self.keyring, ledger, grouping)
        admission.check(self.signed, highest_serial=0, running=None, now_ms=self.now_ms)
        ledger.accept(self.ticket, self.now_ms)
        if self.ticket.mode == SEEDED:
            return super()._round(peer, ledger=ledger, **options)  # type: ignore[arg-type]
        return super()._round(peer, **options)
