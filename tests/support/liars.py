"""Rounds with one peer that lies, and how they end."""

from __future__ import annotations

from typing import Any

from smpcfl.protocol import trailer
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.messages import Answer
from smpcfl.protocol.peer_round import PeerRound
from support.network import Network, make_ticket, peer_ids
from support.weakened import one_is

PEERS = peer_ids(8)
LIAR = 4
NAME = PEERS[LIAR]
Outcome = tuple[Reason, str] | str


class Patient(Network):
    """The deadlines of exchange and ready pass; what the aggregator refuses is recorded as well."""

    def ready(self) -> None:
        super().ready()
        for deadline in (self.ticket.deadlines.exchange, self.ticket.deadlines.ready):
            self.now = deadline / 1000
            self.pump()

    def take_answer(self, peer: str, answer: Answer) -> None:
        try:
            super().take_answer(peer, answer)
        except RemoteError as error:
            self.errors.append(("aggregator", error))


def with_liar(kind: type[PeerRound], **options: Any) -> Network:
    return Patient(make_ticket(8), round_class=one_is(NAME, kind), **options)


def outcome(network: Network) -> Outcome:
    """`right` or `wrong` for a sum that passes, else why the round is void, and who is named."""
    try:
        total = network.run()
        trailer.decode(total.wide[-trailer.LENGTH :], len(network.survivors))
    except RemoteError as error:
        return error.reason, error.peer
    return "right" if total == network.expected() else "wrong"


def refused(network: Network) -> set[tuple[Reason, str]]:
    """What was refused by anyone, and who was named."""
    found = [error for _, error in network.errors if isinstance(error, RemoteError)]
    return {(error.reason, error.peer) for error in found}
