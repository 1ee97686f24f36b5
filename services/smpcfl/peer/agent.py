"""The agent: holds the round that is open, and drives the core with the clock and the network."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import asdict
from typing import Any, TypeVar

from ..base.log_events import LogEvent, about, during
from ..base.metrics import Metrics
from ..base.waiting import wait_for
from ..net import wire
from ..net.agent_wire import Round
from ..net.certificates import Identity, der
from ..net.node_proof import node_bytes
from ..protocol.additive import AdditivePeerRound
from ..protocol.admission import Admission
from ..protocol.errors import Reason, RemoteError
from ..protocol.grouping import Grouping
from ..protocol.guarantee import guarantee, withstands
from ..protocol.ledger import Ledger
from ..protocol.masks import AdditiveMasks, SeededMasks
from ..protocol.messages import Answer, Call, Header, PeerMessage, Survivors
from ..protocol.peer_round import PeerRound
from ..protocol.phases import Phase
from ..protocol.policy import Policy
from ..protocol.ring import Raw
from ..protocol.signing import Keyring
from ..protocol.ticket import ADDITIVE, SEEDED, SignedTicket
from .floors import Floors
from .peer_draws import PeerDraws
from .serial_store import SerialStore
from .traffic import Traffic

log = logging.getLogger("smpcfl.peer")
SPREAD_S = 0.5
T = TypeVar("T")
Send = Callable[[Call, Callable[[int], None]], Coroutine[Any, Any, PeerMessage | None]]


class CallFailed(Exception):
    """A call to another peer got no usable reply; `reason` if it was refused with one."""

    def __init__(self, text: str, reason: Reason | None = None) -> None:
        super().__init__(text)
        self.reason = reason


class PeerAgent:
    """One round at a time. `send` makes a call, and reports how many bytes go out with it."""

    def __init__(
        self,
        own: Identity,
        policy: Policy,
        keyring: Keyring,
        serials: SerialStore,
        ledger: Ledger,
        send: Send,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        floors: Floors | None = None,
        draws: PeerDraws | None = None,
        traffic: Traffic | None = None,
    ) -> None:
        self.name = own.name
        self._own = own
        self.policy = policy
        self._signer = own.signer
        self._keyring = keyring
        self._draws = draws
        grouping = draws.grouping if draws else Grouping(own.name)
        self._admission = Admission(own.name, policy, keyring, ledger, grouping)
        self._serials = serials
        self._ledger = ledger
        self._send = send
        self._metrics = metrics
        self.traffic = traffic or Traffic(metrics)
        self._clock = clock
        self._round: Round | None = None
        self._started = 0.0
        self._changed = asyncio.Event()
        self._driver: asyncio.Task[None] | None = None
        self._calls: set[asyncio.Task[None]] = set()
        self._work: set[asyncio.Future[Any]] = set()  # for others, while the round is open
        self.p2p_bytes = 0
        self.guarantee = ""  # of the last round that was opened
        self.floors = floors or Floors()
        self.instance = os.urandom(8)  # tells this process from one before it

    def vouch(self, node: int) -> tuple[bytes, bytes]:
        """Certificate (DER) and signature: that Flower's `node` is this peer's, of this instance."""
        return der(self._own.certificate), self._signer(node_bytes(node, self.instance))

    # -- the round ------------------------------------------------------------------------------

    async def learn(self, signed: SignedTicket) -> None:
        """To be called before `take_ticket`: the ticket may be of a draw that this peer has not heard of."""
        if self._draws is not None:
            await self._draws.learn(signed)

    def take_ticket(self, signed: SignedTicket, *, spread: bool = False) -> Round:
        """The round of this ticket, opened if the ticket is new. RemoteError if it is refused.

        `spread`: it comes from the aggregator, and is passed on to the neighbours.
        """
        running = self._round.ticket.digest if self._round is not None else None
        now_ms = int(time.time() * 1000)
        fresh = self._admission.check(
            signed, highest_serial=self._serials.highest, running=running, now_ms=now_ms
        )
        if not fresh:
            assert self._round is not None
            if not spread:
                self._round.offered()
            return self._round
        ticket = signed.ticket
        self._serials.accept(ticket.serial)
        self._ledger.accept(ticket, now_ms)
        self.close_round()
        # Several peers may have it from the aggregator at the same moment; one is enough to spread it.
        delay = random.uniform(0.0, SPREAD_S) if spread else None
        if ticket.mode == ADDITIVE:
            opened: Round = AdditivePeerRound(
                signed, self.name, self._signer, os.urandom, spread=delay
            )
        else:
            opened = PeerRound(
                signed,
                self.name,
                self.policy,
                self._signer,
                self._keyring,
                os.urandom,
                ledger=self._ledger,
                spread=delay,
            )
        self._round, self._started, self.p2p_bytes = opened, self._clock(), 0
        self.guarantee = guarantee(withstands(ticket), len(ticket.cohort), ticket.mode)
        self._metrics.round.set(ticket.round)
        self._metrics.cohort_peers.set(len(ticket.cohort))
        self._metrics.withstood.set(withstands(ticket))
        deadlines = asdict(ticket.deadlines)
        for phase, milliseconds in deadlines.items():
            self._metrics.deadline.set(milliseconds / 1000, phase=phase)
        log.info(
            "round %d of run %d: cohort of %d, threshold %d, deadlines %s; %s",
            ticket.round,
            ticket.run,
            len(ticket.cohort),
            ticket.threshold,
            ", ".join(f"{name} {value / 1000:g} s" for name, value in deadlines.items()),
            self.guarantee,
            extra=about(LogEvent.ROUND_OPENED, run=ticket.run, round=ticket.round),
        )
        self._driver = asyncio.create_task(self._keep_driving(opened))
        return opened

    def round_of(self, ticket_digest: bytes) -> Round:
        """The open round, by its ticket's digest or the tag of it; RemoteError(UNKNOWN_TICKET)."""
        if self._round is None or ticket_digest not in (
            self._round.ticket.digest,
            wire.tag(self._round.ticket.digest),
        ):
            raise RemoteError(Reason.UNKNOWN_TICKET)
        return self._round

    def seeded(self, ticket_digest: bytes) -> PeerRound:
        found = self.round_of(ticket_digest)
        if not isinstance(found, PeerRound):
            raise RemoteError(Reason.POLICY_MODE, expected=SEEDED, found=found.ticket.mode)
        return found

    def now(self) -> float:
        """Seconds since the open round's ticket was first seen."""
        return self._clock() - self._started

    def wake(self) -> None:
        """Something changed: whoever waits looks again."""
        self._changed.set()
        self._changed = asyncio.Event()

    def close_round(self) -> None:
        if self._driver is not None:
            self._driver.cancel()
            self._driver = None
        for task in (*self._calls, *self._work):
            task.cancel()
        if self._round is not None:
            self._round.close()
            self._round = None
        self.wake()

    async def while_open(self, round_: Round, work: Coroutine[Any, Any, T]) -> T:
        """What `work` returns. RemoteError if the round is closed, or past its upload deadline, before."""
        left = round_.ticket.deadlines.upload / 1000 - self.now()
        task = asyncio.ensure_future(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        try:
            done, _ = await asyncio.wait({task}, timeout=max(left, 0.0))
        finally:
            task.cancel()
        if not done:
            raise RemoteError(Reason.DEADLINE, "upload")
        if task.cancelled():
            raise RemoteError(Reason.ROUND_CLOSED)
        return task.result()

    async def _keep_driving(self, round_: Round) -> None:
        """A round that cannot be driven is closed: whoever waits for it gets an error."""
        ticket = round_.ticket
        with during(run=ticket.run, round=ticket.round):
            try:
                await self._drive(round_)
            except Exception:
                log.exception(
                    "round %d cannot go on and is closed",
                    ticket.round,
                    extra=about(LogEvent.ROUND_BROKEN),
                )
                if self._round is round_:
                    self._driver = None
                    self.close_round()

    async def _drive(self, round_: Round) -> None:
        phase, since, counted = round_.phase, self._clock(), False
        while True:
            changed = self._changed
            for call in round_.calls(self.now()):
                self._spawn(round_, call)
            for error in round_.proven():
                self.refused(error)
            if round_.phase is not phase:
                if phase is Phase.EXCHANGE:
                    self._metrics.phase_duration.observe(self._clock() - since, phase="exchange")
                phase, since, counted = round_.phase, self._clock(), False
                log.debug("round %d: %s", round_.ticket.round, phase)
            # Until all count, not until the masks are taken: that is the time that training takes,
            # which reveals how much data there is.
            if phase is Phase.READY and not counted and round_.all_count:
                self._metrics.phase_duration.observe(self._clock() - since, phase="ready")
                log.debug("round %d: all count", round_.ticket.round)
                counted = True
            due = round_.next_event(self.now())
            if due is None:
                break
            # At least a millisecond, so that a deadline which is due is past when it is looked at.
            await wait_for(changed, max(due - self.now(), 0.0) + 0.001)
        log.info(
            "round %d closed: its secrets are gone",
            round_.ticket.round,
            extra=about(LogEvent.ROUND_CLOSED),
        )
        self.wake()

    def _spawn(self, round_: Round, call: Call) -> None:
        task = asyncio.create_task(self._make(round_, call))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _make(self, round_: Round, call: Call) -> None:
        try:
            reply = await self._send(call, self._count)
            round_.answered(call, reply, self.now())
        except CallFailed as error:
            round_.failed(call, self.now(), error.reason)
        except RemoteError as error:
            self.refused(error)
        except asyncio.CancelledError:
            if self._round is not round_:
                raise
            round_.failed(call, self.now())  # the channel was closed under it
        except Exception:
            log.exception(
                "a call to %s failed", call.to, extra=about(LogEvent.ROUND_BROKEN, peer=call.to)
            )
            round_.failed(call, self.now())
        self.wake()

    def _count(self, sent: int) -> None:
        self.p2p_bytes += sent

    def refused(self, error: RemoteError) -> None:
        self._metrics.rejected.inc(reason=error.reason.value)
        self.log_refusal(error)

    def log_refusal(self, error: RemoteError) -> None:
        log.warning("refused: %s", error, extra=self.about(LogEvent.REFUSED, error.peer))

    def about(self, event: LogEvent, peer: str = "") -> dict[str, int | str]:
        """For a line of the log: that it is of the open round, if there is one."""
        ticket = self._round.ticket if self._round is not None else None
        run, number = (ticket.run, ticket.round) if ticket else (None, None)
        return about(event, run=run, round=number, peer=peer)

    # -- for the ClientApp ------------------------------------------------------------------------

    async def masks(
        self, ticket_digest: bytes, released_ms: int, *, failed: bool = False
    ) -> tuple[Round, SeededMasks | AdditiveMasks, Header]:
        """The round's masks as soon as they may be given; RemoteError once they never will be.

        `released_ms`: after training began; `failed`: training did, and a zero is masked.
        """
        round_ = self.round_of(ticket_digest)
        async for _ in self._changes(round_):
            if round_.masks_available(self.now()) or round_.phase not in (
                Phase.EXCHANGE,
                Phase.READY,
            ):
                break
        masks, header = round_.masks(self.now(), failed=failed)
        ticket = round_.ticket
        self.floors.left(ticket.task, released_ms, ticket.deadlines.training_ms)
        self.wake()
        return round_, masks, header

    def freeze(self, ticket_digest: bytes, vector: Raw) -> None:
        self.round_of(ticket_digest).freeze(vector, self.now())
        self.wake()

    # -- for the aggregator -----------------------------------------------------------------------

    async def unmask(self, message: Survivors) -> Answer:
        """Agrees with the neighbours on the survivors and answers; RemoteError at the deadline."""
        round_ = self.seeded(message.ticket_digest)
        round_.survivors(message, self.now())
        self._metrics.survivors.set(len(message.survivors))
        self.wake()
        began = self._clock()
        async for _ in self._changes(round_):
            answer = round_.answer(self.now())
            if answer is not None:
                self._metrics.phase_duration.observe(self._clock() - began, phase="agree")
                self.wake()
                return answer
        raise RemoteError(Reason.ROUND_CLOSED, "unmask")

    async def _changes(self, round_: Round) -> AsyncIterator[None]:
        """Yields at once, and after every change or deadline, while the round is open."""
        while True:
            changed = self._changed
            yield
            due = round_.next_event(self.now())
            if due is None:
                return
            await wait_for(changed, max(due - self.now(), 0.0) + 0.002)
