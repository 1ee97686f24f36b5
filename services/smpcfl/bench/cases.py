"""The cases of `smpcfl bench`: each one work, done by several sides in turn, its limit among them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from ..protocol import trailer
from ..protocol.keystream import SEED_BYTES, Secret, pair_key, self_key
from ..protocol.masks import SeededMasks
from ..protocol.quantise import ROTATED, Quantiser, decode_update
from ..protocol.ring import Layout, Raw, RingVector
from ..protocol.shamir import combine, split
from ..protocol.ticket import ADDITIVE, SEEDED, default_threshold
from . import limits, peak
from .inputs import WEIGHT_CAP, Floats, encode, some_masks, unmasked, update_of
from .measured import BYTES, EIGHT, HERE, LIMIT, PLAIN, SECAGG, SECONDS, Measured
from .round_costs import MemoryRound, RoundFigures, play
from .timing import Say, Spread, in_turn, ratio_of

WIDTH = 16
FEW = 8  # peers, or masks, where a case has its own number
FLOAT32_BYTES = 4


@dataclass(frozen=True)
class Sizes:
    """How much work: as the page in the docs has it."""

    words: int = 11_700_000
    """One vector, of a model that fills the memory rather than a cache."""
    peers: int = 32
    parameters: int = 1_000_000
    """Each peer's vector, where there are many."""
    whole: int = 101_770
    """Parameters of a whole round's model."""
    cohorts: tuple[int, ...] = (8, 32, 100)
    """Of whole rounds."""
    turns: int = 7
    flower: bool = True
    """Whether Flower's own FedAvg and SecAgg+ take their turns."""


SHORT = Sizes(words=4_000_000, peers=8, cohorts=(8,), turns=31, flower=False)


@dataclass(frozen=True)
class Case:
    measure: Callable[[Sizes, Say], Measured]
    held: bool = True
    """Whether it has a ratio, which `--check` compares with the committed one."""


def _timed(
    work: str,
    sides: Mapping[str, Callable[[], object]],
    limit: str,
    sizes: Sizes,
    say: Say,
) -> Measured:
    taken = in_turn(sides, sizes.turns, say)
    spreads = {side: Spread.of(values) for side, values in taken.items()}
    ratio = ratio_of(taken[HERE], taken[LIMIT])
    return Measured(work, SECONDS, spreads, ratio, {LIMIT: limit})


# -- one peer's kernels ----------------------------------------------------------------------------


def masks(sizes: Sizes, say: Say) -> Measured:
    layout = Layout(WIDTH, sizes.words, trailer.LENGTH)
    addend = layout.zeros()
    addend.body[:] = np.random.default_rng(1).integers(0, 1 << WIDTH, sizes.words, layout.dtype)
    before = addend.copy()
    seeded = some_masks(FEW)
    say("sum")
    _exact(unmasked(seeded, seeded.apply(addend)) == before)
    return _timed(
        f"{FEW} masks of {sizes.words:,} words of {WIDTH} bits, added to a vector",
        {
            HERE: lambda: seeded.apply(addend),
            LIMIT: lambda: limits.keystream(FEW * layout.nbytes),
        },
        "raw AES-256-CTR, as many bytes",
        sizes,
        say,
    )


def quantise(sizes: Sizes, say: Say) -> Measured:
    given, trained = update_of(sizes.words)
    rule = Quantiser(WIDTH, clip=1.0, weight_cap=WEIGHT_CAP, cohort=FEW)
    say("sum")
    _check_decoded(rule, given, trained, encode(rule, {"all": given}, {"all": trained}))
    return _timed(
        f"an update of {sizes.words:,} float32 to words of {WIDTH} bits",
        {
            HERE: lambda: encode(rule, {"all": given}, {"all": trained}),
            LIMIT: lambda: limits.read_update(given, trained),
        },
        "memory: reading both models once, and writing a new vector",
        sizes,
        say,
    )


def quantise_memory(sizes: Sizes, say: Say) -> Measured:
    say("in a process of its own")
    found, least = peak.peak(sizes.words), peak.least(sizes.words)
    return Measured(
        f"peak memory of the same: {sizes.words:,} float32 to words of {WIDTH} bits",
        BYTES,
        {HERE: Spread.of([found]), LIMIT: Spread.of([least])},
        found / least,
        {LIMIT: "both models and the words, and nothing else"},
    )


def client(sizes: Sizes, say: Say) -> Measured:
    n = sizes.peers
    given, trained = update_of(sizes.parameters)
    rule = Quantiser(WIDTH, clip=1.0, weight_cap=WEIGHT_CAP, cohort=n)
    layout = Layout(WIDTH, sizes.parameters, trailer.LENGTH)
    seed, digest, private = Secret(secrets.token_bytes(SEED_BYTES)), bytes(32), _private()
    others = {f"peer-{i}": _private().public_key().public_bytes_raw() for i in range(n - 1)}

    def agreed() -> SeededMasks:
        keys = [pair_key(private, key, digest, "me", peer) for peer, key in others.items()]
        half = len(keys) // 2
        return SeededMasks(self_key(seed, digest, "me"), tuple(keys[:half]), tuple(keys[half:]))

    def upload() -> Raw:
        return agreed().apply(encode(rule, {"all": given}, {"all": trained})).raw

    say("sum")
    _check_decoded(rule, given, trained, unmasked(agreed(), layout.parse(upload())))

    def limit() -> None:
        limits.keystream(n * layout.nbytes)
        limits.read_update(given, trained)

    sides: dict[str, Callable[[], object]] = {}
    if sizes.flower:
        from . import flower_cases

        say("SecAgg+: a whole round")
        sides[PLAIN] = partial(flower_cases.plain_reply, trained)
        sides[SECAGG] = flower_cases.secagg_round(n, sizes.parameters).client
    return _timed(
        f"one client of {n}, {sizes.parameters:,} parameters: quantises, agrees on keys, and masks",
        {**sides, HERE: upload, LIMIT: limit},
        f"raw AES of {n} masks, and memory as for `quantise`",
        sizes,
        say,
    )


# -- the cohort ------------------------------------------------------------------------------------


def server(sizes: Sizes, say: Say) -> Measured:
    n = sizes.peers
    say("the peers' part")
    round_ = MemoryRound(SEEDED, n, sizes.parameters, WIDTH)
    round_.run()
    _exact(round_.aggregate() == round_.expected(round_.ticket.cohort))
    layout = round_.ticket.layout
    vectors = [layout.parse(vector).body for _, vector in round_.uploads.values()]

    def limit() -> None:
        limits.read_vectors(vectors)
        limits.keystream(n * layout.nbytes)

    sides: dict[str, Callable[[], object]] = {}
    if sizes.flower:
        from . import flower_cases

        say("SecAgg+: a whole round")
        sides[PLAIN] = flower_cases.plain_server(n, sizes.parameters)
        sides[SECAGG] = flower_cases.secagg_round(n, sizes.parameters).server
    return _timed(
        f"{n} uploads of {sizes.parameters:,} parameters, summed and unmasked",
        {**sides, HERE: round_.aggregate, LIMIT: limit},
        f"reading {n} uploads once, and raw AES of {n} self masks",
        sizes,
        say,
    )


def upload_bytes(sizes: Sizes, say: Say) -> Measured:
    say("a whole round")
    plain = FLOAT32_BYTES * sizes.parameters
    here, least = (
        sent["upload"] + sent["unmask"]
        for sent in (play(SEEDED, FEW, sizes.parameters, width).sent for width in (WIDTH, ROTATED))
    )
    sides = {PLAIN: float(plain)}
    if sizes.flower:
        from . import flower_cases

        say("SecAgg+")
        sides[SECAGG] = flower_cases.secagg_round(FEW, sizes.parameters).bytes_up
    return Measured(
        f"bytes up of one of {FEW} clients, {sizes.parameters:,} parameters",
        BYTES,
        {side: Spread.of([value]) for side, value in {**sides, HERE: here, EIGHT: least}.items()},
        here / plain,
        {PLAIN: "the parameters as float32"},
    )


def peer_bytes(sizes: Sizes, say: Say) -> Measured:
    sides = {}
    for peers in sizes.cohorts:
        say(f"a round of {peers} peers")
        sides[f"{peers} peers"] = Spread.of([play(SEEDED, peers, 10).sent["p2p"]])
    return Measured("bytes that a peer sends to the others in a round", BYTES, sides)


def rounds(sizes: Sizes, say: Say) -> Measured:
    kinds = [(SEEDED, peers) for peers in sizes.cohorts] + [(ADDITIVE, FEW)]
    found: dict[str, list[RoundFigures]] = {}
    turns = min(sizes.turns, 3)
    for turn in range(turns):
        for mode, peers in kinds:
            say(f"{mode}, {peers} peers, turn {turn + 1} of {turns}")
            played = play(mode, peers, sizes.whole, WIDTH)
            found.setdefault(f"{mode}, {peers} peers", []).append(played)
    sides = {}
    for name, runs in found.items():
        sides[f"{name}: a peer"] = Spread.of(sum(run.peer_s.values()) for run in runs)
        sides[f"{name}: the aggregator"] = Spread.of(sum(run.aggregator_s.values()) for run in runs)
    return Measured(f"whole rounds in memory, {sizes.whole:,} parameters", SECONDS, sides)


def shamir(sizes: Sizes, say: Say) -> Measured:
    shared = secrets.token_bytes(32)
    works: dict[str, Callable[[], object]] = {}
    for degree in (7, 40):
        threshold = default_threshold(degree)
        deal = partial(split, shared, threshold, degree, secrets.token_bytes)
        some = dict(list(enumerate(deal(), 1))[-threshold:])
        _exact(combine(some) == shared)
        works[f"split among {degree}"] = deal
        works[f"found again from {threshold} of {degree}"] = partial(combine, some)
    taken = in_turn(works, 100, say)
    sides = {name: Spread.of(values) for name, values in taken.items()}
    return Measured("Shamir's sharing of one secret of 32 bytes", SECONDS, sides)


CASES = {
    "masks": Case(masks),
    "quantise": Case(quantise),
    "quantise-memory": Case(quantise_memory),
    "client": Case(client),
    "server": Case(server),
    "bytes": Case(upload_bytes),
    "peer-bytes": Case(peer_bytes, held=False),
    "rounds": Case(rounds, held=False),
    "shamir": Case(shamir, held=False),
}


# -- what they share -------------------------------------------------------------------------------


def _private() -> X25519PrivateKey:
    return X25519PrivateKey.generate()


def _exact(equal: bool) -> None:
    if not equal:
        raise RuntimeError("the sum is not the sum of the updates: these figures mean nothing")


def _check_decoded(rule: Quantiser, given: Floats, trained: Floats, addend: RingVector) -> None:
    """Stochastic rounding moves an entry by less than a unit, and float32 by next to nothing."""
    model, counters = decode_update(rule, {"all": given}, addend, 1)
    unit = rule.clip / rule.span * (rule.cohort * rule.weight_cap / counters.weight)
    _exact(float(np.abs(model["all"] - trained).max()) < 1.01 * unit)
