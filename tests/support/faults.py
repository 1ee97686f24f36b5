"""What may go wrong in a round, as a list of faults: drawn from a seed, printed, shrunk by leaving out.

Peers are cohort indices, HUB is the aggregator. `number` counts from 0: the messages of a link from one
party to another, or the acts of a peer. Times are in seconds after the aggregator signed the ticket.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from smpcfl.protocol.signing import AGGREGATOR
from smpcfl.protocol.ticket import default_threshold

HUB = -1
# What a peer does in a round: a message handled (a request or the reply to its own), or a step of its own.
ACTS = (
    "ticket",
    "exchange",
    "ready",
    "train",
    "upload",
    "survivors",
    "agree",
    "answer",
)


@dataclass(frozen=True)
class Drop:
    """One message is lost; with `reply` it arrives, and what is lost is its reply."""

    sender: int
    to: int
    number: int
    reply: bool = False


@dataclass(frozen=True)
class Delay:
    """One message is late, and overtaken by others."""

    sender: int
    to: int
    number: int
    seconds: float


@dataclass(frozen=True)
class Twice:
    """One message arrives again, so much later."""

    sender: int
    to: int
    number: int
    seconds: float


@dataclass(frozen=True)
class Cut:
    """Nothing gets from one party to another for a while, replies included; the way back is open."""

    sender: int
    to: int
    at: float = 0.0
    seconds: float = 1e9


@dataclass(frozen=True)
class Crash:
    """Killed just before, or just after, its act; back after a while, if ever, with the round lost."""

    peer: int
    act: str
    number: int = 0
    after: bool = False
    back_s: float | None = None


@dataclass(frozen=True)
class Pause:
    """Stands still, and then goes on as if nothing had been."""

    peer: int
    at: float
    seconds: float


@dataclass(frozen=True)
class Late:
    """The ticket comes so late from the aggregator; it may come earlier from a neighbour."""

    peer: int
    seconds: float


@dataclass(frozen=True)
class Slow:
    """Trains for so long."""

    peer: int
    seconds: float


@dataclass(frozen=True)
class TwoFaces:
    """Announces one public key to one half of its neighbours, and another to the other half."""

    peer: int


@dataclass(frozen=True)
class Lie:
    """The aggregator also shows this peer a survivor set without `missing`, so long after it was fixed."""

    peer: int
    missing: int
    seconds: float


Link: TypeAlias = tuple[str, str, int]  # from, to, and the number of the message
Fault: TypeAlias = Drop | Delay | Twice | Cut | Crash | Pause | Late | Slow | TwoFaces | Lie


@dataclass(frozen=True)
class Schedule:
    """One round and all that goes wrong in it. `seed` fixes secrets, updates and latencies."""

    seed: int
    n: int
    faults: tuple[Fault, ...]
    mode: str = "seeded"


class Script:
    """The faults of one round by where they strike; parties by name."""

    def __init__(self, faults: Sequence[Fault], cohort: Sequence[str]) -> None:
        self.crashes: dict[tuple[str, str, int], Crash] = {}
        self.lies: list[tuple[str, Lie]] = []
        self.two_faced: set[str] = set()
        self.ticket_late: defaultdict[str, float] = defaultdict(float)
        self.training_late: defaultdict[str, float] = defaultdict(float)
        self._messages: dict[Link, list[Fault]] = {}
        self._cuts: dict[tuple[str, str], list[Cut]] = {}
        self._pauses: dict[str, list[Pause]] = {}
        names = {HUB: AGGREGATOR, **dict(enumerate(cohort))}
        for fault in faults:
            match fault:
                case Drop(sender, to) | Delay(sender, to) | Twice(sender, to):
                    link = (names[sender], names[to], fault.number)
                    self._messages.setdefault(link, []).append(fault)
                case Cut(sender, to):
                    self._cuts.setdefault((names[sender], names[to]), []).append(fault)
                case Crash(peer):
                    self.crashes[names[peer], fault.act, fault.number] = fault
                case Pause(peer):
                    self._pauses.setdefault(names[peer], []).append(fault)
                case Late(peer):
                    self.ticket_late[names[peer]] += fault.seconds
                case Slow(peer):
                    self.training_late[names[peer]] += fault.seconds
                case TwoFaces(peer):
                    self.two_faced.add(names[peer])
                case Lie(peer):
                    self.lies.append((names[peer], fault))

    def lost(self, link: Link, *, now: float, reply: bool) -> bool:
        """Whether this message, or the reply to it, gets lost."""
        for fault in self._messages.get(link, ()):
            if isinstance(fault, Drop) and fault.reply == reply:
                return True
        sender, to, _ = link
        way = (to, sender) if reply else (sender, to)
        return any(cut.at <= now < cut.at + cut.seconds for cut in self._cuts.get(way, ()))

    def late(self, link: Link) -> float:
        faults = self._messages.get(link, ())
        return sum(fault.seconds for fault in faults if isinstance(fault, Delay))

    def echoes(self, link: Link) -> list[float]:
        faults = self._messages.get(link, ())
        return [fault.seconds for fault in faults if isinstance(fault, Twice)]

    def resumed(self, party: str, now: float) -> float:
        """`now`, or when the party stands still, the end of that."""
        for pause in self._pauses.get(party, ()):
            if pause.at <= now < pause.at + pause.seconds:
                return pause.at + pause.seconds
        return now


def draw(seed: int, *, horizon_s: float, modes: Sequence[str] = ("seeded",)) -> Schedule:
    """A random schedule of 3 to 8 peers; most of its faults fall within `horizon_s`."""
    rng = random.Random(seed)
    n = rng.randint(3, 8)
    # Much of what goes wrong does so for one unlucky peer: else hardly a round would complete.
    unlucky = rng.randrange(n)
    kinds = rng.choices(_KINDS, _WEIGHTS, k=min(int(rng.expovariate(0.22)), 16))
    faults = tuple(kind(rng, n, unlucky, horizon_s) for kind in kinds)
    return Schedule(seed, n, faults, rng.choice(modes))


def draw_confined(seed: int, *, horizon_s: float) -> tuple[Schedule, set[int]]:
    """A random schedule of 5 to 8 peers and its victims, as many as such a round tolerates.

    Whatever goes wrong is done to a victim, or to a message from or to one.
    """
    rng = random.Random(seed)
    n = rng.randint(5, 8)
    tolerated = n - 1 - default_threshold(n - 1)
    victims = rng.sample(range(n), rng.randint(1, tolerated))
    faults = []
    for kind in rng.choices(_KINDS[:-1], _WEIGHTS[:-1], k=rng.randint(2, 14)):
        fault, victim = kind(rng, n, victims[0], horizon_s), rng.choice(victims)
        if isinstance(fault, Drop | Delay | Twice | Cut):
            if not {fault.sender, fault.to} & set(victims):
                end = "to" if fault.sender == HUB or rng.random() < 0.5 else "sender"
                fault = replace(fault, **{end: victim})
        else:
            fault = replace(fault, peer=victim)
        faults.append(fault)
    return Schedule(seed, n, tuple(faults)), set(victims)


def draw_edge(seed: int, *, horizon_s: float) -> Schedule:
    """A random schedule of 5 to 13 peers that loses as much as such a round tolerates, and no more.

    Mostly one makes two announcements; up to 3 % of the links are down; and as many peers vanish as may be
    lost beside these, before they upload: the aggregator then knows it. So of everyone else there are as
    many holders as are needed. Some messages between peers get lost too, or are late, which costs a retry.
    """
    rng = random.Random(seed)
    n = rng.randint(5, 13)
    tolerated = n - 1 - default_threshold(n - 1)
    liars = 1 if rng.random() < 0.7 else 0
    pairs = [(one, other) for other in range(n) for one in range(other)]
    most = min(max(1, round(0.03 * len(pairs))), tolerated - liars)
    links = rng.sample(pairs, rng.randint(0, most))
    gone = rng.sample(range(n), tolerated - len(links))
    faults: list[Fault] = [TwoFaces(peer) for peer in gone[:liars]]
    lost = gone[liars:]
    for one, other in links:
        faults += [Cut(one, other), Cut(other, one)]
    for peer in lost:
        once = rng.random() < 0.5
        act = rng.choice(("ticket", "train") if once else ("exchange", "ready"))
        faults.append(Crash(peer, act, 0 if once else rng.randrange(n - 1), rng.random() < 0.5))
    for _ in range(rng.randint(0, 6)):
        sender, to = rng.sample(range(n), 2)
        number, seconds = rng.randrange(5), round(rng.uniform(0, horizon_s / 10), 2)
        kind = rng.choice((Drop, Delay, Twice))
        more = (rng.random() < 0.5,) if kind is Drop else (seconds,)
        faults.append(kind(sender, to, number, *more))
    return Schedule(seed, n, tuple(faults))


def _pair(rng: random.Random, n: int, unlucky: int) -> tuple[int, int]:
    one = unlucky if rng.random() < 0.5 else rng.randrange(n)
    other = rng.choice([HUB, *(i for i in range(n) if i != one)])
    return (one, other) if rng.random() < 0.5 else (other, one)


def _drop(rng: random.Random, n: int, unlucky: int, horizon: float) -> Fault:
    return Drop(*_pair(rng, n, unlucky), rng.randrange(5), rng.random() < 0.5)


def _delay(rng: random.Random, n: int, unlucky: int, horizon: float) -> Fault:
    seconds = rng.uniform(0, 1) if rng.random() < 0.5 else rng.uniform(0, horizon / 2)
    return Delay(*_pair(rng, n, unlucky), rng.randrange(5), round(seconds, 2))


def _twice(rng: random.Random, n: int, unlucky: int, horizon: float) -> Fault:
    seconds = rng.uniform(0, 1) if rng.random() < 0.5 else rng.uniform(0, horizon)
    return Twice(*_pair(rng, n, unlucky), rng.randrange(5), round(seconds, 2))


def _cut(rng: random.Random, n: int, unlucky: int, horizon: float) -> Fault:
    at, seconds = rng.uniform(0, horizon), rng.expovariate(4 / horizon)
    return Cut(*_pair(rng, n, unlucky), round(at * rng.random(), 2), round(seconds, 2))


def _crash(rng: random.Random, n: int, unlucky: int, horizon: float) -> Fault:
    act = rng.choice(ACTS)
    once = act in ("train", "upload", "survivors", "answer")
    back = round(rng.uniform(0, horizon / 3), 2) if rng.random() < 0.3 else None
    number = 0 if once else rng.randrange(n)
    return Crash(rng.randrange(n), act, number, rng.random() < 0.5, back)


def _pause(rng: random.Random, n: int, unlucky: int, horizon: float) -> Fault:
    at = rng.uniform(0, 1) if rng.random() < 0.5 else rng.uniform(0, horizon)
    return Pause(unlucky, round(at, 2), round(rng.expovariate(4 / horizon), 2))


def _late(rng: random.Random, n: int, unlucky: int, horizon: float) -> Fault:
    return Late(rng.randrange(n), round(rng.expovariate(8 / horizon), 2))


def _slow(rng: random.Random, n: int, unlucky: int, horizon: float) -> Fault:
    return Slow(rng.randrange(n), round(rng.expovariate(5 / horizon), 2))


def _two_faces(rng: random.Random, n: int, unlucky: int, horizon: float) -> Fault:
    return TwoFaces(unlucky)


def _lie(rng: random.Random, n: int, unlucky: int, horizon: float) -> Fault:
    return Lie(rng.randrange(n), rng.randrange(n), round(rng.choice((0.0, rng.random())), 2))


_KINDS = (_drop, _delay, _twice, _cut, _crash, _pause, _late, _slow, _two_faces, _lie)
_WEIGHTS = (10, 8, 8, 4, 4, 2, 2, 2, 1, 2)


def shrink(schedule: Schedule, fails: Callable[[Schedule], bool]) -> Schedule:
    """A failing schedule that no longer fails when any one of its faults is left out."""
    step = len(schedule.faults) // 2
    while step:
        for start in range(len(schedule.faults) - step, -1, -1):
            rest = schedule.faults[:start] + schedule.faults[start + step :]
            fewer = Schedule(schedule.seed, schedule.n, rest, schedule.mode)
            if fails(fewer):
                schedule = fewer
                step = min(step, len(rest))
                break
        else:
            step //= 2
    return schedule
