"""An in-memory network with a fake clock: whole rounds in one process, any fault, no sleep."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec

from smpcfl.protocol import trailer
from smpcfl.protocol.additive import AdditivePeerRound
from smpcfl.protocol.aggregator_round import AggregatorRound
from smpcfl.protocol.errors import ProtocolError, RemoteError
from smpcfl.protocol.messages import (
    AdditiveShare,
    Agreement,
    Answer,
    Call,
    Exchange,
    PeerMessage,
    Survivors,
    Upload,
)
from smpcfl.protocol.peer_round import PeerRound
from smpcfl.protocol.policy import Policy
from smpcfl.protocol.quantise import encode_failure
from smpcfl.protocol.retry import LONGEST_S
from smpcfl.protocol.ring import Layout, RingVector
from smpcfl.protocol.signing import AGGREGATOR, REGISTRY, Keyring, KeyTable, Signer, signer
from smpcfl.protocol.ticket import (
    ADDITIVE,
    SEEDED,
    Deadlines,
    SignedTicket,
    Ticket,
    default_threshold,
)

PHASES = ("ticket", "exchange", "ready", "train", "upload", "agree", "unmask")
POLICY = Policy(modes=(SEEDED, ADDITIVE), min_cohort=3)
Round = PeerRound | AdditivePeerRound


def entropy_from(seed: object) -> Callable[[int], bytes]:
    """Reproducible bytes; for tests alone."""
    counter = 0

    def draw(count: int) -> bytes:
        nonlocal counter
        counter += 1
        return hashlib.shake_256(f"{seed}/{counter}".encode()).digest(count)

    return draw


@cache
def key_of(name: str) -> ec.EllipticCurvePrivateKey:
    number = int.from_bytes(hashlib.sha256(name.encode()).digest(), "big") >> 1
    return ec.derive_private_key(number, ec.SECP256R1())


def keyring_of(names: Iterable[str]) -> KeyTable:
    return KeyTable({n: key_of(n).public_key() for n in (*names, AGGREGATOR, REGISTRY)})


@cache
def signer_of(name: str) -> Signer:
    return signer(key_of(name), deterministic=True)


def cheap_signer_of(name: str) -> Signer:
    """Not a signature: a hash that names its signer. A hundred times cheaper, for large cohorts."""
    return lambda message: hashlib.sha512(name.encode() + b"/" + message).digest()


class CheapKeyring:
    def verify(self, name: str, message: bytes, signature: bytes) -> bool:
        return cheap_signer_of(name)(message) == signature


def peer_ids(count: int) -> tuple[str, ...]:
    return tuple(f"peer-{number:05d}" for number in range(count))


def make_ticket(
    n: int,
    *,
    mode: str = SEEDED,
    width: int = 16,
    body: int = 10,
    serial: int = 1,
    **changes: object,
) -> SignedTicket:
    """A valid signed ticket; `changes` replace fields before it is signed."""
    cohort = peer_ids(n)
    ticket = Ticket(
        run=1,
        round=serial,
        serial=serial,
        nonce=hashlib.sha256(str(serial).encode()).digest(),
        mode=mode,
        cohort=cohort,
        threshold=default_threshold(n - 1),
        width=width,
        clip=1.0,
        weight_cap=100,
        body=body,
        wide=trailer.LENGTH,
        min_survivors=min(n, default_threshold(n - 1) + 1),
        deadlines=Deadlines(20_000, 40_000, 100_000, 120_000, 140_000, 160_000),
        model_digest=bytes(32),
        config_digest=bytes(32),
    )
    return sign(replace(ticket, **changes))  # type: ignore[arg-type]


def sign(ticket: Ticket, name: str = AGGREGATOR) -> SignedTicket:
    return SignedTicket(ticket, signer_of(name)(ticket.signed_bytes))


def random_addend(layout: Layout, rng: np.random.Generator) -> RingVector:
    """Any ring vector whose trailer counts one peer with one example."""
    body = (
        rng.integers(0, 2**layout.width, layout.body, np.uint64, endpoint=False)
        if (layout.width < 64)
        else rng.integers(0, 2**64 - 1, layout.body, np.uint64, endpoint=True)
    )
    counters = trailer.Trailer(peers=1, contributors=1, weight=1, examples=1)
    wide = np.concatenate(
        [
            rng.integers(0, 2**62, layout.wide - trailer.LENGTH).astype(np.uint64),
            trailer.encode(counters, 40),
        ]
    )
    return RingVector.of(body.astype(layout.dtype), wide)


@dataclass
class Network:
    """A cohort, its aggregator, and what is scripted to go wrong.

    `lost[peer]` is the phase at whose start the peer vanishes; `cut` holds (from, to) pairs whose calls
    fail, `unheard` those whose calls arrive but whose replies are lost; training fails on the `failing`.
    `addends` are the q_i, by peer id.
    """

    signed: SignedTicket
    seed: int = 0
    lost: dict[str, str] = field(default_factory=dict)
    cut: set[tuple[str, str]] = field(default_factory=set)
    policy: Policy = field(default_factory=lambda: POLICY)
    cheap: bool = False
    round_class: type[PeerRound] = PeerRound
    additive_class: type[AdditivePeerRound] = AdditivePeerRound
    aggregator_class: type[AggregatorRound] = AggregatorRound
    unheard: set[tuple[str, str]] = field(default_factory=set)
    failing: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.now = 0.0
        self.ticket = self.signed.ticket
        self.keyring: Keyring = CheapKeyring() if self.cheap else keyring_of(self.ticket.cohort)
        self.signer_of = cheap_signer_of if self.cheap else signer_of
        self.alive = set(self.ticket.cohort)
        self.errors: list[tuple[str, ProtocolError]] = []
        self.sent_bytes = 0
        self.rounds: dict[str, Round] = {}
        rng = np.random.default_rng(self.seed)
        self.addends = {p: random_addend(self.ticket.layout, rng) for p in self.ticket.cohort}
        for peer in self.failing:
            self.addends[peer] = encode_failure(self.ticket.layout, len(self.ticket.cohort))
        self.uploads: dict[str, Upload] = {}
        self.order = random.Random(self.seed)

    # -- phases, in order -------------------------------------------------------------------------

    def start(self) -> None:
        self._lose("ticket")
        for peer in sorted(self.alive):
            self.rounds[peer] = self._round(peer)

    def _round(self, peer: str, **options: float | None) -> Round:
        entropy = entropy_from((self.seed, peer, self.ticket.serial))
        signer = self.signer_of(peer)
        if self.ticket.mode == ADDITIVE:
            return self.additive_class(self.signed, peer, signer, entropy, **options)
        kind = self._class_of(peer)
        return kind(self.signed, peer, self.policy, signer, self.keyring, entropy, **options)

    def _class_of(self, peer: str) -> type[PeerRound]:
        return self.round_class

    def pump(self, only: tuple[type, ...] | None = None) -> None:
        """Delivers calls until none is due; `only` holds all other kinds of message back."""
        progress = True
        while progress:
            progress = False
            peers = sorted(self.alive & self.rounds.keys())
            self.order.shuffle(peers)
            for peer in peers:
                due = self.rounds[peer].calls(self.now)
                found = [(peer, error) for error in self.rounds[peer].proven()]
                self.errors += found
                for call in reversed(due):
                    held = only is not None and not isinstance(call.message, only)
                    if held:
                        self.rounds[peer].failed(call, self.now)
                        continue
                    if not isinstance(call.message, SignedTicket):
                        progress = True
                    self._deliver(peer, call)

    def _deliver(self, sender: str, call: Call) -> None:
        round_ = self.rounds[sender]
        if call.to not in self.alive or (sender, call.to) in self.cut or call.to not in self.rounds:
            round_.failed(call, self.now)
            return
        try:
            reply = self.handle(call.to, sender, call.message)
        except RemoteError as error:
            self.errors.append((call.to, error.with_traceback(None)))
            round_.failed(call, self.now, error.reason)
            return
        if (sender, call.to) in self.unheard:
            round_.failed(call, self.now)
            return
        try:
            round_.answered(call, reply, self.now)
        except RemoteError as error:
            self.errors.append((sender, error.with_traceback(None)))

    def time_of(self, peer: str) -> float:
        """Seconds since `peer` first saw the ticket."""
        return self.now

    def handle(self, to: str, sender: str, message: PeerMessage) -> PeerMessage | None:
        if isinstance(message, SignedTicket):  # every round here is open from the start
            return None
        return self.rounds[to].handle(sender, message, self.time_of(to))

    def exchange(self) -> None:
        self._lose("exchange")
        self.pump((Exchange, AdditiveShare))

    def ready(self) -> None:
        """Ready, with the exchange and ready deadlines passing where someone is missing."""
        self._lose("ready")
        self.pump()
        if len(self.alive) < len(self.ticket.cohort) or self.cut or self.unheard:
            self.now = self.ticket.deadlines.exchange / 1000
            self.pump()
            self.now = self.ticket.deadlines.ready / 1000
            self.pump()

    def upload(self) -> None:
        self._lose("train")
        for peer in sorted(self.alive & self.rounds.keys()):
            self.mask(peer)
        self._lose("upload")
        self.aggregator = self.aggregator_class(
            self.signed, self.signer_of(AGGREGATOR), self.keyring
        )
        for peer, upload in self.uploads.items():
            if peer in self.alive:
                self.aggregator.upload(peer, upload)

    def mask(self, peer: str) -> bool:
        """Masks and freezes the update of `peer`; False if it is too early for that."""
        round_, now = self.rounds[peer], self.time_of(peer)
        try:
            if not round_.masks_available(now):
                return False
            round_.begin(self.ticket.model_digest, self.ticket.config_digest)
            masks, header = round_.masks(now, failed=peer in self.failing)
        except RemoteError as error:
            self.errors.append((peer, error.with_traceback(None)))
            return True
        vector = masks.apply(self.addends[peer].copy()).tobytes()
        announcement = round_.announcement if isinstance(round_, PeerRound) else None
        self.uploads[peer] = Upload(header, announcement, vector)
        round_.freeze(vector, now)
        return True

    def unmask(self) -> RingVector:
        """Agree and unmask; the sum, or RemoteError where the round is void."""
        self.survivors = self.aggregator.fix_survivors()
        if self.ticket.mode == SEEDED:
            self.answer()
        return self.aggregator.total()

    def answer(self) -> None:
        """Agree over the survivors that the aggregator fixed, and what each peer answers."""
        self._lose("agree")
        for peer in sorted(self.alive & self.rounds.keys()):
            try:
                round_ = self.rounds[peer]
                assert isinstance(round_, PeerRound)
                round_.survivors(self.shown(peer), self.now)
            except RemoteError as error:
                self.errors.append((peer, error.with_traceback(None)))
        self.pump((Agreement,))
        self._lose("unmask")
        for peer in sorted(self.alive & self.rounds.keys()):
            round_ = self.rounds[peer]
            assert isinstance(round_, PeerRound)
            try:
                answer = round_.answer(self.now)
            except RemoteError as error:
                self.errors.append((peer, error.with_traceback(None)))
                continue
            if answer is not None:
                self.take_answer(peer, answer)

    def shown(self, peer: str) -> Survivors:
        """The survivor set as the aggregator sends it to `peer`."""
        return self.aggregator.survivors()

    def take_answer(self, peer: str, answer: Answer) -> None:
        """The answer of `peer` as it reaches the aggregator."""
        self.aggregator.answer(peer, answer)

    def until(self, phase: str) -> Network:
        """Through start, exchange, ready and upload, up to and with `phase`; then scripts go on by hand."""
        for step in ("start", "exchange", "ready", "upload"):
            getattr(self, step)()
            if step == phase:
                return self
        raise ValueError(phase)

    def run(self) -> RingVector:
        self.start()
        self.exchange()
        self.ready()
        self.upload()
        return self.unmask()

    def expected(self) -> RingVector:
        """Σ q_i over the survivors."""
        total = self.ticket.layout.zeros()
        for peer in self.survivors:
            total += self.addends[peer]
        return total

    def _lose(self, phase: str) -> None:
        self.now += LONGEST_S  # whatever was held back or failed is due again
        self.alive -= {peer for peer, when in self.lost.items() if when == phase}
