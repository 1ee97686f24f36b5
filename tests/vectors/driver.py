"""One round in one process: delivers what the peers send, in cohort order, and keeps what it saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from smpcfl.protocol.additive import AdditivePeerRound
from smpcfl.protocol.aggregator_round import AggregatorRound
from smpcfl.protocol.messages import (
    AdditiveShare,
    Agreement,
    Answer,
    Exchange,
    SignedTicket,
    Survivors,
    Upload,
)
from smpcfl.protocol.peer_round import PeerRound
from smpcfl.protocol.ring import RingVector

Round = PeerRound | AdditivePeerRound


@dataclass
class Driven:
    """`addends`: q_i by peer id; `failing`: whose training failed; `lost`: who is gone after ready."""

    rounds: Mapping[str, Round]
    aggregator: AggregatorRound
    addends: Mapping[str, RingVector]
    failing: frozenset[str] = frozenset()
    lost: frozenset[str] = frozenset()
    exchanged: list[tuple[str, str, Any]] = field(default_factory=list)
    uploads: dict[str, Upload] = field(default_factory=dict)
    agreements: dict[str, Agreement] = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)
    survivors: Survivors | None = None

    def run(self) -> RingVector:
        for now in (1.0, 2.0):
            self._deliver(set(self.rounds), now)
        alive = set(self.rounds) - self.lost
        for peer in sorted(alive):
            self._upload(peer, 3.0)
        self.aggregator.fix_survivors()
        if any(isinstance(round_, AdditivePeerRound) for round_ in self.rounds.values()):
            return self.aggregator.total()
        self.survivors = self.aggregator.survivors()
        for peer in sorted(alive):
            self._seeded(peer).survivors(self.survivors, 4.0)
        self._deliver(alive, 4.0)
        for peer in sorted(alive):
            answer = self._seeded(peer).answer(5.0)
            assert answer is not None
            self.answers[peer] = answer
            self.aggregator.answer(peer, answer)
        return self.aggregator.total()

    def _upload(self, peer: str, now: float) -> None:
        round_, ticket = self.rounds[peer], self.aggregator.ticket
        assert round_.masks_available(now)
        round_.begin(ticket.model_digest, ticket.config_digest)
        masks, header = round_.masks(now, failed=peer in self.failing)
        vector = masks.apply(self.addends[peer].copy()).tobytes()
        round_.freeze(vector, now)
        announcement = round_.announcement if isinstance(round_, PeerRound) else None
        self.uploads[peer] = Upload(header, announcement, vector)
        self.aggregator.upload(peer, self.uploads[peer])

    def _deliver(self, alive: set[str], now: float) -> None:
        progress = True
        while progress:
            progress = False
            for me in sorted(alive):
                for call in self.rounds[me].calls(now):
                    if call.to not in alive:
                        self.rounds[me].failed(call, now)
                        continue
                    progress = True
                    reply = self._reply(call.to, me, call.message, now)
                    self.rounds[me].answered(call, reply, now)

    def _reply(self, to: str, sender: str, message: Any, now: float) -> Any:
        if isinstance(message, AdditiveShare):
            self.exchanged.append((sender, to, message))
        if isinstance(message, Agreement):
            self.agreements[sender] = message
        if isinstance(message, SignedTicket):
            return None
        reply = self.rounds[to].handle(sender, message, now)
        if isinstance(message, Exchange):
            self.exchanged += [(sender, to, message), (to, sender, reply)]
        return reply

    def _seeded(self, peer: str) -> PeerRound:
        round_ = self.rounds[peer]
        assert isinstance(round_, PeerRound)
        return round_
