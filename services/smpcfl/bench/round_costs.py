"""A whole round in one process: every peer and the aggregator, over the wire's encoding, no network.

Peers may be lost, each from the start of a phase on; what is sent to them reaches nobody. One peer, in the
middle of those that stay, and the aggregator do all their work and are timed. The other peers take every
signature as good and do not parse what comes from one another, or a round of a hundred peers would take
minutes.
"""

from __future__ import annotations

import secrets
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec

from smpc.v1 import messages_pb2, peer_pb2

from ..net import wire
from ..net.kinds import KINDS
from ..net.rpc import FRAME_BYTES
from ..protocol import trailer
from ..protocol.additive import AdditivePeerRound
from ..protocol.admission import Admission
from ..protocol.aggregator_round import AggregatorRound
from ..protocol.messages import Call, PeerRequest, Ready
from ..protocol.peer_round import PeerRound
from ..protocol.policy import Policy
from ..protocol.quantise import ModelShape, decode_update, model_digest
from ..protocol.retry import LONGEST_S
from ..protocol.ring import RingVector
from ..protocol.signing import AGGREGATOR, Keyring, KeyTable, signer
from ..protocol.ticket import (
    SECURE_MODES,
    Deadlines,
    SignedTicket,
    Ticket,
    default_min_survivors,
    default_threshold,
)
from .inputs import WEIGHT_CAP, encode

PHASES = ("ticket", "exchange", "ready", "train", "upload", "agree", "unmask")
_CONFIG = bytes(32)
_POLICY = Policy(modes=SECURE_MODES, min_cohort=3)


@dataclass(frozen=True)
class RoundFigures:
    """Seconds of one peer and of the aggregator, by phase; bytes of a peer, the cohort's mean.

    `sent` has the channels upload, p2p and unmask. It receives `ticket_in`, the ticket, and `unmask_in`, the
    survivor set. `verified`: how many signatures that one peer checked.
    """

    ticket: Ticket
    survivors: int
    peer_s: dict[str, float]
    aggregator_s: dict[str, float]
    sent: dict[str, float]
    ticket_in: float
    unmask_in: float
    verified: int

    @property
    def neighbour_bytes(self) -> float:
        """What a peer sends to other peers, for each of its neighbours."""
        return self.sent["p2p"] / self.ticket.degree


@dataclass
class _Counting:
    keyring: Keyring
    verified: int = 0

    def verify(self, name: str, message: bytes, signature: bytes) -> bool:
        self.verified += 1
        return self.keyring.verify(name, message, signature)


class _Trusting:
    def verify(self, name: str, message: bytes, signature: bytes) -> bool:
        return True


def play(
    mode: str,
    peers: int,
    parameters: int,
    width: int = 16,
    lost: Mapping[int, str] | None = None,
) -> RoundFigures:
    """One round of `peers` peers on the complete graph, with a model of `parameters` float32.

    `lost`: by place in the cohort, the one of PHASES at whose start the peer vanishes. RemoteError where more
    are lost than the round withstands.
    """
    return MemoryRound(mode, peers, parameters, width, lost).run()


class MemoryRound:
    """One round, to be run once; the aggregator's part of it can then be repeated."""

    def __init__(
        self,
        mode: str,
        peers: int,
        parameters: int,
        width: int = 16,
        lost: Mapping[int, str] | None = None,
    ) -> None:
        lost = lost or {}
        cohort = tuple(f"peer-{number:05d}" for number in range(peers))
        staying = [cohort[index] for index in range(peers) if index not in lost]
        self.watched = staying[len(staying) // 2]
        self.lost = {cohort[index]: phase for index, phase in lost.items()}
        self.alive = list(cohort)
        self.now = 0.0  # where nobody is lost it is over before the first retry or deadline
        self.rng = np.random.default_rng(1)
        self.model = {"parameters": np.zeros(parameters, np.float32)}
        self.keys = {
            name: ec.generate_private_key(ec.SECP256R1()) for name in (*cohort, AGGREGATOR)
        }
        self.keyring = KeyTable({name: key.public_key() for name, key in self.keys.items()})
        self.watching = _Counting(self.keyring)
        threshold = default_threshold(peers - 1)
        self.ticket = Ticket(
            run=1,
            round=1,
            serial=1,
            nonce=secrets.token_bytes(32),
            mode=mode,
            cohort=cohort,
            threshold=threshold,
            width=width,
            clip=1.0,
            weight_cap=WEIGHT_CAP,
            body=ModelShape.of(self.model).layout(width).body,
            wide=trailer.LENGTH,
            min_survivors=default_min_survivors(mode, peers, threshold),
            deadlines=Deadlines(),
            model_digest=model_digest(self.model),
            config_digest=_CONFIG,
        )
        signature = signer(self.keys[AGGREGATOR])(self.ticket.signed_bytes)
        self.signed = SignedTicket(self.ticket, signature)
        self.rounds: dict[str, PeerRound | AdditivePeerRound] = {}
        self.aggregator = AggregatorRound(self.signed, signer(self.keys[AGGREGATOR]), self.keyring)
        self.addends: dict[str, RingVector] = {}
        self.uploads: dict[str, tuple[bytes, bytes]] = {}  # header and announcement, vector
        self.answers: dict[str, bytes] = {}
        self.seconds: defaultdict[tuple[str, str], float] = defaultdict(float)
        self.bytes: Counter[tuple[str, str]] = Counter()

    def run(self) -> RoundFigures:
        self._lose("ticket")
        ticket = wire.ticket_to_proto(self.signed).SerializeToString()
        for peer in self.alive:
            self.bytes[peer, "ticket_in"] += len(ticket) + FRAME_BYTES
            with self._timed(peer, "exchange"):
                self._start(peer, ticket)
        self._exchange()
        self._lose("train")
        for peer in self.alive:
            self._mask(peer)
        self._lose("upload")
        for peer in self.alive:
            self._upload(peer, *self.uploads[peer])
        with self._timed(AGGREGATOR, "unmask"):
            survivors = self.aggregator.fix_survivors()
        if self.ticket.recovers:
            self._unmask()
        with self._timed(AGGREGATOR, "sum"):
            total = self.aggregator.total()
            decode_update(self.ticket.quantiser, self.model, total, len(survivors))
        if total != self.expected(survivors):
            raise RuntimeError("the sum is not the sum of the updates: these figures mean nothing")
        return self._figures(len(survivors))

    def expected(self, survivors: Iterable[str]) -> RingVector:
        """The sum of what these wanted to add."""
        total = self.ticket.layout.zeros()
        for peer in survivors:
            total += self.addends[peer]
        return total

    def aggregate(self) -> RingVector:
        """All that the aggregator did in `run`, once more, from the bytes that it got; the sum."""
        aggregator = AggregatorRound(self.signed, signer(self.keys[AGGREGATOR]), self.keyring)
        for peer, (meta, vector) in self.uploads.items():
            aggregator.upload(peer, wire.upload_from(meta, vector))
        survivors = aggregator.fix_survivors()
        for peer, raw in self.answers.items():
            read = wire.parse(peer_pb2.UnmaskReply, raw)
            aggregator.answer(peer, wire.answer_from_proto(read.answer))
        total = aggregator.total()
        decode_update(self.ticket.quantiser, self.model, total, len(survivors))
        return total

    def _lose(self, phase: str) -> None:
        self.alive = [peer for peer in self.alive if self.lost.get(peer) != phase]

    def _start(self, peer: str, raw: bytes) -> None:
        signed = wire.ticket_from_proto(wire.parse(messages_pb2.SignedTicket, raw))
        keyring: Keyring = self.watching if peer == self.watched else _Trusting()
        Admission(peer, _POLICY, keyring).check(signed, highest_serial=0, running=None, now_ms=0)
        sign = signer(self.keys[peer])
        self.rounds[peer] = (
            PeerRound(signed, peer, _POLICY, sign, keyring, secrets.token_bytes)
            if signed.ticket.recovers
            else AdditivePeerRound(signed, peer, sign, secrets.token_bytes)
        )

    def _exchange(self) -> None:
        """Exchange and ready. Where somebody is lost, both deadlines pass."""
        self._lose("exchange")
        if self.lost:
            self._pump("exchange", held=(Ready,))
            self.now += LONGEST_S  # what was held back is due again
        self._lose("ready")
        self._pump("exchange")
        if self.lost:
            deadlines = self.ticket.deadlines
            for deadline_ms in (deadlines.exchange, deadlines.ready):
                self.now = deadline_ms / 1000
                self._pump("exchange")

    def _pump(self, phase: str, held: tuple[type, ...] = ()) -> None:
        """Delivers calls until none is due, but for kinds that are `held` back."""
        progress = True
        while progress:
            progress = False
            for peer in self.alive:
                round_ = self.rounds[peer]
                with self._timed(peer, phase):
                    calls = round_.calls(self.now)
                for call in calls:
                    if call.to not in self.alive or isinstance(call.message, held):
                        round_.failed(call, self.now)
                        continue
                    progress = True
                    self._deliver(peer, call, phase)

    def _deliver(self, sender: str, call: Call, phase: str) -> None:
        kind, parse = KINDS[type(call.message)], self.watched in (sender, call.to)
        with self._timed(sender, phase):
            requests = self._send(sender, kind.requests(call.message))
        with self._timed(call.to, phase):
            message: PeerRequest = call.message
            if parse:
                parts = [wire.parse(kind.request.proto, raw) for raw in requests]
                read = kind.request.read
                message = read(parts if kind.streams else parts[0], self.ticket.digest)
            reply = self.rounds[call.to].handle(sender, message, self.now)
            (raw,) = self._send(call.to, [kind.reply.write(reply)])
        with self._timed(sender, phase):
            if parse:
                reply = kind.reply.read(wire.parse(kind.reply.proto, raw), self.ticket.digest)
            self.rounds[sender].answered(call, reply, self.now)

    def _mask(self, peer: str) -> None:
        update = self.rng.normal(0, 0.01, self.model["parameters"].size).astype(np.float32)
        trained = {"parameters": self.model["parameters"] + update}
        round_ = self.rounds[peer]
        with self._timed(peer, "upload"):
            addend = encode(self.ticket.quantiser, self.model, trained)
        self.addends[peer] = addend.copy()  # masking spends it
        with self._timed(peer, "upload"):
            round_.begin(model_digest(self.model), _CONFIG)
            masks, header = round_.masks(self.now)
            announcement = round_.announcement if isinstance(round_, PeerRound) else None
            meta = wire.upload_meta_to_proto(header, announcement).SerializeToString()
            vector = masks.apply(addend).tobytes()
            round_.freeze(vector, self.now)
        self.uploads[peer] = (meta, vector)

    def _upload(self, peer: str, meta: bytes, vector: bytes) -> None:
        self.bytes[peer, "upload"] += len(meta) + len(vector)
        with self._timed(AGGREGATOR, "upload"):
            self.aggregator.upload(peer, wire.upload_from(meta, vector))

    def _unmask(self) -> None:
        self._lose("agree")
        for peer in self.alive:
            with self._timed(AGGREGATOR, "unmask"):
                survivors = self.aggregator.survivors()
                raw = wire.survivors_to_proto(survivors, self.ticket).SerializeToString()
            self.bytes[peer, "unmask_in"] += len(raw) + FRAME_BYTES
            with self._timed(peer, "unmask"):
                round_ = self._seeded(peer)
                if peer == self.watched:
                    message = wire.parse(messages_pb2.Survivors, raw)
                    survivors = wire.survivors_from_proto(message, round_.ticket)
                round_.survivors(survivors, self.now)
        self._pump("unmask")
        self._lose("unmask")
        for peer in self.alive:
            with self._timed(peer, "unmask"):
                answer = self._seeded(peer).answer(self.now)
                assert answer is not None
                reply = peer_pb2.UnmaskReply(
                    answer=wire.answer_to_proto(answer), p2p_bytes=self.bytes[peer, "p2p"]
                )
                raw = reply.SerializeToString()
            self.answers[peer] = raw
            self.bytes[peer, "unmask"] += len(raw) + FRAME_BYTES
            with self._timed(AGGREGATOR, "unmask"):
                read = wire.parse(peer_pb2.UnmaskReply, raw)
                self.aggregator.answer(peer, wire.answer_from_proto(read.answer))

    def _seeded(self, peer: str) -> PeerRound:
        round_ = self.rounds[peer]
        assert isinstance(round_, PeerRound)
        return round_

    def _send(self, sender: str, messages: Iterable[Any]) -> list[bytes]:
        """The protobuf messages as bytes; counted, each with its frame."""
        raw = [message.SerializeToString() for message in messages]
        self.bytes[sender, "p2p"] += sum(len(part) + FRAME_BYTES for part in raw)
        return raw

    @contextmanager
    def _timed(self, party: str, phase: str) -> Iterator[None]:
        began = perf_counter()
        yield
        self.seconds[party, phase] += perf_counter() - began

    def _figures(self, survivors: int) -> RoundFigures:
        n = len(self.ticket.cohort)

        def seconds(party: str) -> dict[str, float]:
            return {phase: s for (who, phase), s in self.seconds.items() if who == party}

        def mean(channel: str) -> float:
            return sum(self.bytes[peer, channel] for peer in self.ticket.cohort) / n

        sent = {channel: mean(channel) for channel in ("upload", "p2p", "unmask")}
        return RoundFigures(
            self.ticket,
            survivors,
            seconds(self.watched),
            seconds(AGGREGATOR),
            sent,
            mean("ticket_in"),
            mean("unmask_in"),
            self.watching.verified,
        )
