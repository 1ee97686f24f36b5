"""A hub and what ClientApps and ServerApp do with it, one after another as in the simulation engine."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from smpcfl.protocol.aggregator_round import AggregatorRound
from smpcfl.protocol.digests import config_digest
from smpcfl.protocol.draw import GROUP_SIZE
from smpcfl.protocol.errors import RemoteError
from smpcfl.protocol.messages import Answer, Upload
from smpcfl.protocol.peer_round import PeerRound
from smpcfl.protocol.ring import RingVector
from smpcfl.protocol.ticket import SEEDED, SignedTicket
from smpcfl.simulation.hub import Hub
from support.network import make_ticket, random_addend

APP = bytes(32)
CONTENT = bytes(32)  # digest of what the ClientApps are given beside the model


class Simulated:
    """`n` virtual peers on the nodes 1 to n. `addends` are the q_i, by peer id; `errors` what was refused."""

    def __init__(
        self,
        n: int,
        *,
        mode: str = SEEDED,
        lost: float = 0.0,
        seed: int = 0,
        group_size: int = GROUP_SIZE,
    ) -> None:
        self.hub = Hub(mode, APP, lost=lost, seed=seed, group_size=group_size)
        self.names = self.hub.join(range(1, n + 1))
        self.errors: dict[str, RemoteError] = {}
        self.addends: dict[str, RingVector] = {}
        self.answers: dict[str, Answer | RemoteError] = {}
        self.survivors: list[str] = []
        self._mode = mode
        self._serial = 0

    def ticket(self, **changes: Any) -> SignedTicket:
        """A fresh one over a new model, of the aggregator; `changes` replace fields first."""
        self._serial = max(self._serial + 1, int(time.time() * 1000))
        fields: dict[str, Any] = {
            "serial": self._serial,
            "nonce": os.urandom(32),
            "cohort": tuple(sorted(self.names.values())),
            "model_digest": os.urandom(32),
            "config_digest": config_digest(CONTENT, APP),
            **changes,
        }
        ticket = replace(make_ticket(len(fields["cohort"]), mode=self._mode).ticket, **fields)
        return SignedTicket(ticket, self.hub.sign(ticket.signed_bytes))

    @contextmanager
    def client(self, name: str) -> Iterator[None]:
        """What is refused is noted, as the ServerApp hears of it."""
        try:
            yield
        except RemoteError as error:
            self.errors[name] = error

    def train(self, signed: SignedTicket, nodes: Iterable[int] | None = None) -> AggregatorRound:
        """Each ClientApp from its beginning to its upload, before the next one begins."""
        self.errors, self.addends = {}, {}
        state = AggregatorRound(signed, self.hub.sign, self.hub.keys)
        rng, digest = np.random.default_rng(1), signed.ticket.digest
        for node in self.names if nodes is None else nodes:
            name = self.names[node]
            with self.client(name):
                self.hub.begin(node, signed, signed.ticket.model_digest, CONTENT)
                round_, masks, header = self.hub.masks(node, digest, failed=False)
                self.addends[name] = random_addend(signed.ticket.layout, rng)
                vector = masks.apply(self.addends[name].copy()).tobytes()
                self.hub.freeze(node, digest, vector)
                announcement = round_.announcement if isinstance(round_, PeerRound) else None
                state.upload(name, Upload(header, announcement, vector))
        return state

    def finish(self, state: AggregatorRound) -> RingVector:
        """The sum; RemoteError where the round is void."""
        self.survivors = state.fix_survivors()
        if state.ticket.mode == SEEDED:
            self.answers = self.hub.unmask(state.survivors())
            for name, answer in self.answers.items():
                if isinstance(answer, Answer):
                    state.answer(name, answer)
        return state.total()

    def true_sum(self, signed: SignedTicket) -> RingVector:
        total = signed.ticket.layout.zeros()
        for name in self.survivors:
            total += self.addends[name]
        return total
