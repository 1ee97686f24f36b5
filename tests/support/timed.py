"""The in-memory network as a simulation of events: latency, time-outs, and faults at any moment.

What an agent, a ClientApp and the aggregator do around the core is done here in the same way, so that
what is tried is the core with its real callers: every call ends by a time-out, and whoever waits looks again
at every change and at every `next_event`.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from smpcfl.net.kinds import KINDS
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.messages import AdditiveShare, Answer, Call, PeerMessage, Survivors
from smpcfl.protocol.peer_round import PeerRound
from smpcfl.protocol.ring import RingVector
from smpcfl.protocol.signing import AGGREGATOR
from smpcfl.protocol.ticket import ADDITIVE, Deadlines, SignedTicket
from support import forge
from support.faults import Fault, Link, Schedule, Script
from support.network import Network, Round, make_ticket
from support.two_faced import TwoFaced

TRAINING_S = 1.0
ASK_AGAIN_S = 1.0
SHORT = Deadlines(
    exchange=6_000, ready=9_000, train=13_000, upload=14_000, agree=18_000, unmask=22_000
)
_ACT = {kind: row.method.lower() for kind, row in KINDS.items()}
_ACT |= {SignedTicket: "ticket", AdditiveShare: "exchange"}
T = TypeVar("T")


class Crashed(Exception):
    """The peer that was about to do something, or did it, is dead."""


@cache
def _ticket_of(n: int, mode: str) -> SignedTicket:
    return make_ticket(n, mode=mode, body=3, deadlines=SHORT)


def timed(schedule: Schedule, **options: Any) -> Timed:
    """The network of a schedule: three entries, short deadlines, cheap signatures."""
    signed = _ticket_of(schedule.n, schedule.mode)
    return Timed(signed, schedule.seed, cheap=True, faults=schedule.faults, **options)


@dataclass
class Timed(Network):
    """`play` runs the whole round. `decided` is when the aggregator had its sum, or knew that it is void.

    A call ends after `call_s`; each message takes up to 50 ms, and `latency_s` more.
    """

    faults: Sequence[Fault] = ()
    call_s: float = 1.5
    latency_s: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.rounds_ever: list[tuple[str, Round]] = []
        self.answers: list[tuple[str, Answer]] = []
        self.decided: float | None = None
        self.void: RemoteError | None = None
        self.sum: RingVector | None = None
        self.survivors: list[str] = []
        self.waiting_for_masks: set[str] = set()
        self.waiting_to_answer: set[str] = set()
        self.aggregator = self.aggregator_class(
            self.signed, self.signer_of(AGGREGATOR), self.keyring
        )
        self._fixed = False
        self._queue: list[tuple[float, int, str, Callable[..., None], tuple[Any, ...]]] = []
        self._events, self._most = 0, 1000 * len(self.ticket.cohort) ** 2
        self._started: dict[str, float] = {}
        self._wakes: dict[str, float] = {}
        self._restarted: set[str] = set()
        self._asks: dict[str, Link] = {}
        self._sent: Counter[tuple[str, str]] = Counter()
        self._acts: Counter[tuple[str, str]] = Counter()
        rng, parties = random.Random(self.seed), (*self.ticket.cohort, AGGREGATOR)
        self._latency = {
            (a, b): self.latency_s + rng.uniform(0.005, 0.05) for a in parties for b in parties
        }
        self._script = Script(self.faults, self.ticket.cohort)

    def _class_of(self, peer: str) -> type[PeerRound]:
        return TwoFaced if peer in self._script.two_faced else super()._class_of(peer)

    # -- the clock --------------------------------------------------------------------------------

    def play(self) -> RingVector:
        """The sum over the survivors; RemoteError where the round is void."""
        for peer in self.ticket.cohort:
            link = self._message(AGGREGATOR, peer)
            if not self._lost(link):
                wait = self._travel(link) + self._script.ticket_late[peer]
                self._at(wait, peer, self._ticket)
        self._at(self.ticket.deadlines.upload / 1000, AGGREGATOR, self._fix)
        while self._queue:
            time, order, party, act, arguments = heapq.heappop(self._queue)
            resumed = self._script.resumed(party, time)
            if resumed > time:
                heapq.heappush(self._queue, (resumed, order, party, act, arguments))
                continue
            self.now = time
            assert self._events < self._most, "the round does not come to an end"
            act(party, *arguments)
        if self.void is not None:
            raise self.void
        assert self.sum is not None
        return self.sum

    def time_of(self, peer: str) -> float:
        return self.now - self._started[peer]

    def _at(self, time: float, party: str, act: Callable[..., None], *arguments: Any) -> None:
        self._events += 1
        heapq.heappush(self._queue, (time, self._events, party, act, arguments))

    def _act(self, peer: str, name: str, do: Callable[[], T]) -> T:
        """What `do` returns. Crashed if `peer` is killed before it, or after it."""
        number = self._acts[peer, name]
        self._acts[peer, name] += 1
        crash = self._script.crashes.get((peer, name, number))
        if crash is not None and not crash.after:
            self._crash(peer, crash.back_s)
        try:
            return do()
        finally:
            if crash is not None:
                self._crash(peer, crash.back_s)

    def _crash(self, peer: str, back_s: float | None) -> None:
        self.alive.discard(peer)
        self.rounds.pop(peer, None)
        self.waiting_for_masks.discard(peer)
        self.waiting_to_answer.discard(peer)
        if back_s is not None:
            self._at(self.now + back_s, peer, self._restart)
        raise Crashed

    def _restart(self, peer: str) -> None:
        self.alive.add(peer)
        if peer in self._started:  # it stored the serial, and takes no further part
            self._restarted.add(peer)

    # -- links ------------------------------------------------------------------------------------

    def _message(self, sender: str, to: str) -> Link:
        """The next message from one party to another."""
        self._sent[sender, to] += 1
        return sender, to, self._sent[sender, to] - 1

    def _travel(self, link: Link) -> float:
        """Seconds that a message is under way."""
        return self._latency[link[:2]] + self._script.late(link)

    def _lost(self, link: Link, *, reply: bool = False) -> bool:
        return self._script.lost(link, now=self.now, reply=reply)

    # -- a peer -----------------------------------------------------------------------------------

    def _ticket(self, peer: str) -> None:
        """The ticket comes with Flower's train message."""
        if peer not in self.alive or peer in self._restarted:
            return
        try:
            self._act(peer, "ticket", lambda: self._open(peer, spread=0.0))
        except Crashed:
            return
        self._at(self.now + TRAINING_S + self._script.training_late[peer], peer, self._trained)
        self._wake(peer)

    def _open(self, peer: str, *, spread: float | None) -> None:
        if peer in self._restarted:
            raise RemoteError(Reason.STALE_SERIAL)
        if peer not in self.rounds:
            self._started[peer] = self.now
            self.rounds[peer] = self._round(peer, spread=spread)
            self.rounds_ever.append((peer, self.rounds[peer]))

    def _trained(self, peer: str) -> None:
        if peer in self.rounds:
            self.waiting_for_masks.add(peer)
            self._wake(peer)

    def _wake(self, peer: str) -> None:
        """Sends what is due, and looks again at the next event: what an agent's driver does."""
        round_ = self.rounds.get(peer)
        if round_ is None:
            return
        for call in round_.calls(self.time_of(peer)):
            self._send(peer, round_, call)
        try:
            if peer in self.waiting_for_masks:
                self._mask(peer)
            if peer in self.waiting_to_answer:
                self._answer(peer)
        except Crashed:
            return
        event = round_.next_event(self.time_of(peer))
        if event is None:
            return
        at = max(self._started[peer] + event, self.now) + 0.001
        if not self.now < self._wakes.get(peer, 0.0) <= at:
            self._wakes[peer] = at
            self._at(at, peer, self._wake)

    def _send(self, sender: str, round_: Round, call: Call) -> None:
        link = self._message(sender, call.to)
        at, ends = self.now + self._travel(link), self.now + self.call_s
        lost = self._lost(link)
        if not lost:
            self._at(at, call.to, self._arrive, round_, call, link, ends, False)
            for later in self._script.echoes(link):
                self._at(at + later, call.to, self._arrive, round_, call, link, 0.0, True)
        if lost or self._script.resumed(call.to, at) >= ends:
            self._at(ends, sender, self._failed, round_, call)

    def _arrive(
        self,
        to: str,
        caller: Round,
        call: Call,
        link: Link,
        ends: float,
        echo: bool,
    ) -> None:
        """One request reaches `to`. Its caller waits until `ends`, and not at all for an echo's reply."""
        sender = link[0]
        reply: PeerMessage | None = None
        reason: Reason | None = None
        answered = False
        if to in self.alive:
            try:
                reply = self._act(
                    to, _ACT[type(call.message)], lambda: self._receive(to, sender, call.message)
                )
                answered = True
            except RemoteError as error:
                self.errors.append((to, error.with_traceback(None)))
                reason = error.reason
            except Crashed:
                pass
            self._wake(to)
        if echo or self.now >= ends:
            return  # nobody waits for it any more; a time-out has its own event
        back = self.now + self._latency[to, sender]
        if back >= ends or self._lost(link, reply=True):
            self._at(ends, sender, self._failed, caller, call)
        elif answered:
            self._at(back, sender, self._reply, caller, call, reply)
        else:
            self._at(back, sender, self._failed, caller, call, reason)

    def _receive(self, to: str, sender: str, message: PeerMessage) -> PeerMessage | None:
        if isinstance(message, SignedTicket):
            known = self.rounds.get(to)
            self._open(to, spread=None)
            if known is not None:
                known.offered()
            return None
        if to not in self.rounds:
            raise RemoteError(Reason.UNKNOWN_TICKET)
        return self.handle(to, sender, message)

    def _reply(self, peer: str, round_: Round, call: Call, reply: PeerMessage | None) -> None:
        if self.rounds.get(peer) is not round_:
            return
        name = _ACT[type(call.message)]
        if name == "ticket":  # to have offered it is no act of its own
            round_.answered(call, reply, self.time_of(peer))
        else:
            try:
                self._act(peer, name, lambda: round_.answered(call, reply, self.time_of(peer)))
            except RemoteError as error:
                self.errors.append((peer, error.with_traceback(None)))
            except Crashed:
                return
        self._wake(peer)

    def _failed(self, peer: str, round_: Round, call: Call, reason: Reason | None = None) -> None:
        if self.rounds.get(peer) is round_:
            round_.failed(call, self.time_of(peer), reason)
            self._wake(peer)

    def _mask(self, peer: str) -> None:
        if not self.mask_time(peer):
            return
        self.waiting_for_masks.discard(peer)
        if peer not in self.uploads:
            return
        self._act(peer, "upload", lambda: self._upload(peer))

    def mask_time(self, peer: str) -> bool:
        """Whether the masks came, or it is certain that they never will."""
        round_ = self.rounds[peer]
        try:
            if not round_.masks_available(self.time_of(peer)):
                return False
        except RemoteError as error:
            self.errors.append((peer, error.with_traceback(None)))
            return True
        return self._act(peer, "train", lambda: self.mask(peer))

    def _upload(self, peer: str) -> None:
        link = self._message(peer, AGGREGATOR)
        if not self._lost(link):
            wait = self._travel(link)
            for later in (0.0, *self._script.echoes(link)):
                self._at(self.now + wait + later, AGGREGATOR, self._uploaded, peer)

    # -- the aggregator ---------------------------------------------------------------------------

    def _uploaded(self, hub: str, peer: str) -> None:
        try:
            self.aggregator.upload(peer, self.uploads[peer])
        except RemoteError as error:
            self.errors.append((hub, error.with_traceback(None)))
        if len(self.aggregator.uploaded) == len(self.ticket.cohort):
            self._fix(hub)

    def _fix(self, hub: str) -> None:
        """Fixes the survivors when all have uploaded, or at the upload deadline."""
        if self._fixed:
            return
        self._fixed = True
        try:
            self.survivors = self.aggregator.fix_survivors()
        except RemoteError as error:
            self._decide(error)
            return
        if self.ticket.mode == ADDITIVE:
            self._finish(hub)
            return
        for peer in self.ticket.cohort:
            self._ask(hub, peer)
        for peer, lie in self._script.lies:
            left = [i for i in map(self.ticket.index, self.survivors) if i != lie.missing]
            link = self._message(AGGREGATOR, peer)
            self._at(self.now + lie.seconds, peer, self._asked, link, forge.survivors(self, left))
        deadlines = self.ticket.deadlines
        rest = (deadlines.unmask - deadlines.upload) / 1000
        self._at(self.now + rest, AGGREGATOR, self._finish)

    def _ask(self, hub: str, peer: str) -> None:
        """Sends the survivor set, again and again where nothing comes back."""
        if self.decided is not None:
            return
        link = self._message(hub, peer)
        if self._lost(link):
            self._at(self.now + self.call_s, hub, self._ask, peer)
            return
        at, message = self.now + self._travel(link), self.aggregator.survivors()
        for later in (0.0, *self._script.echoes(link)):
            self._at(at + later, peer, self._asked, link, message)

    def _asked(self, peer: str, link: Link, message: Survivors) -> None:
        if peer not in self.rounds:
            if peer not in self.alive:
                self._at(self.now + ASK_AGAIN_S, AGGREGATOR, self._ask, peer)
            return  # alive without the round: refused for good
        round_ = self.rounds[peer]
        assert isinstance(round_, PeerRound)
        try:
            self._act(peer, "survivors", lambda: round_.survivors(message, self.time_of(peer)))
        except RemoteError as error:
            self.errors.append((peer, error.with_traceback(None)))
            return
        except Crashed:
            self._at(self.now + ASK_AGAIN_S, AGGREGATOR, self._ask, peer)
            return
        self._asks[peer] = link
        self.waiting_to_answer.add(peer)
        self._wake(peer)

    def _answer(self, peer: str) -> None:
        round_ = self.rounds[peer]
        assert isinstance(round_, PeerRound)
        try:
            answer = round_.answer(self.time_of(peer))
        except RemoteError as error:
            self.errors.append((peer, error.with_traceback(None)))
            self.waiting_to_answer.discard(peer)
            return
        if answer is not None:
            self.waiting_to_answer.discard(peer)
            self._act(peer, "answer", lambda: self._show(peer, answer))

    def _show(self, peer: str, answer: Answer) -> None:
        self.answers.append((peer, answer))
        if self._lost(self._asks[peer], reply=True):
            self._at(self.now + self.call_s, AGGREGATOR, self._ask, peer)
        else:
            back = self._travel(self._message(peer, AGGREGATOR))
            self._at(self.now + back, AGGREGATOR, self._answered, peer, answer)

    def _answered(self, hub: str, peer: str, answer: Answer) -> None:
        if self.decided is not None:
            return
        try:
            self.aggregator.answer(peer, answer)
        except RemoteError as error:
            self.errors.append((hub, error.with_traceback(None)))
        if self.aggregator.enough():
            self._finish(hub)

    def _finish(self, hub: str) -> None:
        if self.decided is None:
            try:
                self.sum = self.aggregator.total()
            except RemoteError as error:
                self._decide(error)
            else:
                self._decide(None)

    def _decide(self, void: RemoteError | None) -> None:
        self.decided, self.void = self.now, void
