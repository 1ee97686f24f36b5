"""One secure round at the aggregator: ticket out, partial sums in, survivors, unmask, sum.

Where the deployment is cut into groups, this is one group's part of it; `summed_round.py` has the whole.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import median
from typing import Any

import numpy.typing as npt
from flwr.app import ConfigRecord, Message

from ...base.log_events import LogEvent, about
from ...net import wire
from ...protocol import trailer as trailers
from ...protocol.aggregator_round import AggregatorRound
from ...protocol.digests import config_digest
from ...protocol.errors import LocalError, ProtocolError, Reason, RemoteError, clean
from ...protocol.guarantee import withstands
from ...protocol.policy import Policy
from ...protocol.quantise import Arrays, ModelShape, model_digest
from ...protocol.ring import RingVector
from ...protocol.signing import Keyring
from ...protocol.summed_metrics import MetricNames, Value
from ...protocol.ticket import (
    EVALUATE,
    TRAIN,
    Deadlines,
    SignedTicket,
    Ticket,
    default_min_survivors,
    default_threshold,
)
from ...protocol.trailer import LENGTH, Trailer
from ...reports.record import GroupRecord
from ..shared.records import RECORD, message_bytes, upload_of
from .clipping import Clipping
from .lineup_groups import Part
from .service_link import Server
from .set_aside import SetAside
from .unmasking import Unmasking

log = logging.getLogger("smpcfl.flower")
_WAIT = re.compile(rf"{Reason.TOO_MANY_TICKETS}: again in (\d+) s")
_LONGEST_WAIT_S = 3600
_FAILED = Reason.TOO_FEW_CONTRIBUTORS
_LIMIT = re.compile(f"policy_[a-z]+|{Reason.SECOND_DRAW}|{Reason.OTHER_PROTOCOL}")


@dataclass
class Outcome:
    """What a round came to. Bytes are totals over the cohort. No `replies`: the round is void."""

    replies: list[Message] = field(default_factory=list)
    model: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    metrics: dict[str, Value] = field(default_factory=dict)
    """The weighted means of what all contributors reported; none if one of them did not."""
    trailer: Trailer | None = None
    fitting_clip: float | None = None
    """What the next clip ought to be, if that does not follow from the trailer."""
    reason: str = ""
    cohort: int = 0
    survivors: int = 0
    contributors: int = 0
    withstood: int | None = None
    draw: int = 0
    groups: list[GroupRecord] = field(default_factory=list)
    """What became of each group's part, where the deployment is cut into groups."""
    suspected: dict[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    """Peers whose groups keep ending void, each with the rounds, as run and round."""
    bytes_up: float = 0.0
    bytes_down: float = 0.0
    bytes_p2p: float = 0.0
    unmask_up: float = 0.0
    unmask_down: float = 0.0
    plain_bytes: float = 0.0
    """Of one peer."""
    lost: dict[str, str] = field(default_factory=dict)
    """Who is no survivor, each with what is known of why."""
    phase_seconds: dict[str, float] = field(default_factory=dict)
    training_failed: bool = False
    """On so many peers that it is void for that."""
    wait_s: float = 0.0
    """Before the round is run again: peers take so many tickets an hour."""


@dataclass(frozen=True)
class Plan:
    """What all tickets of one round have in common.

    `content_digest`: of the messages and the run's configuration; `app`: SHA-256 of the app's bundle;
    `given`: the model, and `summed`: the arrays of it that are trained, in an evaluation none; `metrics`:
    which ones are summed.
    """

    task: str
    mode: str
    number: int
    given: Arrays
    summed: Arrays
    content_digest: bytes
    app: bytes
    width: int
    clipping: Clipping
    deadlines: Deadlines
    metrics: MetricNames
    weighted_by: str

    @cached_property
    def model_digest(self) -> bytes:
        return model_digest(self.given)


class SecureRound:
    """Builds the ticket of one cohort that takes part, and sees it through. Any RemoteError voids it."""

    def __init__(self, server: Server, plan: Plan, part: Part) -> None:
        assert part.chosen is not None
        chosen, ledger, group = part.chosen, part.ledger, part.group
        self._server = server
        self._plan = plan
        self.peers = chosen.peers
        self.group = group
        cohort = chosen.cohort
        threshold = default_threshold(len(cohort) - 1)
        self._within = chosen.within
        self._ledger = ledger
        layout = ModelShape.of(plan.summed).layout(plan.width, plan.metrics.words)
        ticket = Ticket(
            run=server.run,
            round=plan.number,
            serial=server.next_serial(),
            nonce=secrets.token_bytes(32),
            mode=plan.mode,
            cohort=cohort,
            threshold=threshold,
            width=plan.width,
            clip=plan.clipping.clip,
            weight_cap=plan.clipping.weight_cap,
            body=layout.body,
            wide=layout.wide,
            min_survivors=default_min_survivors(plan.mode, len(cohort), threshold),
            deadlines=plan.deadlines,
            model_digest=plan.model_digest,
            config_digest=config_digest(plan.content_digest, plan.app),
            task=plan.task,
            weighted_by=plan.weighted_by,
            metrics=plan.metrics,
            arrays=tuple(sorted(plan.summed)) if len(plan.summed) < len(plan.given) else (),
            draw=group.draw if group else 0,
            group=group.group if group else 0,
        )
        now_ms = int(time.time() * 1000)
        if plan.task == EVALUATE:
            ledger.check_evaluation(ticket, now_ms)
        ledger.accept(ticket, now_ms)
        self.signed = SignedTicket(ticket, server.signer(ticket.signed_bytes))
        self.silent = set(self.peers)  # nodes that did not reply
        self.total: RingVector | None = None
        self.survivors: tuple[str, ...] = ()
        self._refusals: dict[str, str] = {}
        self._refused_uploads: dict[str, str] = {}
        self._p2p_bytes: dict[str, int] = {}  # what each says that it sent
        self._again: dict[str, Message] = {}
        self._state: AggregatorRound
        self.outcome = Outcome(cohort=len(cohort), withstood=withstands(ticket))

    @property
    def ticket(self) -> Ticket:
        return self.signed.ticket

    def void(self, reason: str) -> Outcome:
        """With what most of the peers that refused gave as their reason.

        LocalError if that is all of them, for one limit of their own: they would refuse every round.
        """
        if self._refusals:
            text, count = Counter(self._refusals.values()).most_common(1)[0]
            limits = {_LIMIT.match(text) for text in self._refusals.values()}
            same = len({limit and limit[0] for limit in limits}) == 1
            reason += f"; {count} of {self.outcome.cohort} peers refused: {text}"
            self.outcome.reason = reason
            if len(self._refusals) == self.outcome.cohort and same and all(limits):
                raise LocalError(f"all {self.outcome.cohort} peers refuse: {text}")
        self.outcome.reason = reason
        return self.outcome

    # -- step by step ---------------------------------------------------------------------------

    def attach(self, messages: list[Message], seed: int | None) -> None:
        """Puts the ticket into the messages to this cohort."""
        ours = ConfigRecord({"ticket": wire.ticket_to_proto(self.signed).SerializeToString()})
        if seed is not None:
            ours["seed"] = seed
        for message in messages:
            message.content[RECORD] = ours
        # All have the same content, or their peers would refuse it: its digest is in the ticket.
        self.outcome.bytes_down = len(messages) * sum(map(message_bytes, messages[:1]))

    def open(self, keyring: Keyring, aside: SetAside) -> None:
        """For replies; `keyring` may learn more keys while they come, `aside` is closed after them."""
        self._state = AggregatorRound(self.signed, self._server.signer, keyring, aside)

    def take(self, node: int, reply: Message) -> None:
        """One peer's reply as it comes, of which no more is kept than its part of the sum."""
        self.silent.discard(node)
        peer = self.peers[node]
        self.outcome.bytes_up += message_bytes(reply)
        if reply.has_error():
            text = self._refusals[peer] = clean(str(reply.error.reason))
            if match := _WAIT.match(text):
                self.outcome.wait_s = max(self.outcome.wait_s, min(int(match[1]), _LONGEST_WAIT_S))
            return
        try:
            self._upload(peer, reply)
        except ProtocolError as error:
            if isinstance(error, RemoteError) and error.reason is Reason.BAD_SIGNATURE:
                self._again[peer] = reply  # perhaps its key is not known yet
            else:
                self._left_out(peer, error)

    def _upload(self, peer: str, reply: Message) -> None:
        meta, vector, p2p_bytes = upload_of(reply)
        self._state.upload(peer, wire.upload_from(meta, vector))
        seen, ticket = self._server.seen, self.ticket
        if seen is not None and ticket.task == TRAIN and peer == ticket.cohort[0]:
            seen.upload(peer, ticket.round, self._plan.summed, ticket.layout, vector)
        self._p2p_bytes[peer] = p2p_bytes

    def _left_out(self, peer: str, error: ProtocolError) -> None:
        self._refused_uploads[peer] = str(error)
        log.warning(
            "the upload of %s is left out: %s",
            peer,
            error,
            extra=about(LogEvent.UPLOAD_LEFT_OUT, peer=peer),
        )
        if isinstance(error, RemoteError):
            self._server.refused(error)

    def fix_survivors(self) -> None:
        """No more replies are waited for. A bad upload is logged and left out."""
        for peer, reply in self._again.items():
            try:
                self._upload(peer, reply)
            except ProtocolError as error:
                self._left_out(peer, error)
        self._again.clear()
        self._say_who_refused()
        state = self._state
        self._count_p2p(self._p2p_bytes)
        self.outcome.lost = self._lost(())
        try:
            survivors = state.fix_survivors(self._within)
        except OSError as error:
            raise RemoteError(
                Reason.TOO_FEW_SURVIVORS, f"an upload that was set aside cannot be read: {error}"
            ) from error
        if self.ticket.recovers:
            indices = [self.ticket.index(peer) for peer in survivors]
            self._ledger.agree(self.ticket, indices, Policy())
        self.survivors = tuple(survivors)
        self.outcome.survivors = len(survivors)
        self.outcome.lost = self._lost(survivors)

    def _lost(self, survivors: Sequence[str]) -> dict[str, str]:
        """The others of the cohort. Without survivors: those that sent no upload that counts."""
        silent = {self.peers[node] for node in self.silent}
        why = {
            **dict.fromkeys(set(self.ticket.cohort) - set(self.peers.values()), "not connected"),
            **dict.fromkeys(silent, "no reply"),
            **{peer: f"refused: {text}" for peer, text in self._refusals.items()},
            **{peer: f"left out: {text}" for peer, text in self._refused_uploads.items()},
        }
        if survivors:
            others = set(self.ticket.cohort) - set(survivors) - why.keys()
            why |= dict.fromkeys(others, "left out: its upload does not fit those of the others")
        return dict(sorted(why.items()))

    def _count_p2p(self, said: Mapping[str, int]) -> None:
        """The median: one that lies about itself must not stand for all."""
        if said:
            self.outcome.bytes_p2p = self.outcome.cohort * median(said.values())

    async def unmask(self, unmasking: Unmasking) -> None:
        state, outcome = self._state, self.outcome
        try:
            await unmasking.run(state)
        finally:  # it went over the wire, whatever came of it
            outcome.unmask_up += unmasking.bytes_in
            outcome.unmask_down += unmasking.bytes_out
            outcome.bytes_up += unmasking.bytes_in
            outcome.bytes_down += unmasking.bytes_out
        if not state.enough() and 2 * unmasking.reasons[_FAILED] > outcome.cohort:
            raise RemoteError(
                _FAILED, "training failed on too many peers: the log of each of them says why"
            )
        # Only who answers counts what it sent in agree, and not all need to answer.
        self._count_p2p(unmasking.p2p_bytes)

    def sum(self) -> None:
        """Leaves `total`, and in the outcome what the trailer and the words of metrics say."""
        outcome, total = self.outcome, self._state.total()
        found = trailers.decode(total.wide[-LENGTH:], outcome.survivors)
        if found.weight > outcome.survivors * self.ticket.weight_cap:
            raise RemoteError(Reason.BAD_TRAILER, "weights beyond the cap", found=found.weight)
        outcome.trailer = found
        outcome.contributors = outcome.trailer.contributors
        outcome.metrics = _metrics(self.ticket, total, outcome.trailer)
        self.total = total

    def _say_who_refused(self) -> None:
        """One line for each reason: they may be many."""
        for text, count in Counter(self._refusals.values()).items():
            peers = [peer for peer, other in self._refusals.items() if other == text]
            who = peers[0] if count == 1 else f"{count} peers, {peers[0]} among them,"
            log.warning("%s did not upload: %s", who, text, extra=about(LogEvent.NOT_UPLOADED))


def _metrics(ticket: Ticket, total: RingVector, counted: Trailer) -> dict[str, Value]:
    """None, with a warning, where somebody's are missing."""
    if counted.reporters < counted.contributors:
        log.warning(
            "no metrics in this round: %d of %d peers had none, or one that was missing, NaN or too large",
            counted.contributors - counted.reporters,
            counted.contributors,
            extra=about(LogEvent.METRICS_WITHHELD),
        )
        return {}
    words = total.wide[-LENGTH - ticket.metrics.words : -LENGTH]
    try:
        found = ticket.metrics.decode(words, counted.reporters, counted.examples)
        if ticket.weighted_by in found:
            raise LocalError(f"{ticket.weighted_by!r} is what they are weighted by")
        return found
    except LocalError as error:
        log.warning("no metrics in this round: %s", error, extra=about(LogEvent.METRICS_WITHHELD))
        return {}
