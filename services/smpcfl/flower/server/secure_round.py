"""One secure round at the aggregator: ticket out, partial sums in, survivors, unmask, sum."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import numpy.typing as npt
from flwr.app import ConfigRecord, Message
from flwr.serverapp import Grid

from ...net import wire
from ...protocol.aggregator_round import AggregatorRound
from ...protocol.digests import config_digest
from ...protocol.errors import LocalError, ProtocolError, Reason, RemoteError, clean
from ...protocol.guarantee import withstands
from ...protocol.policy import Policy
from ...protocol.quantise import Arrays, ModelShape, decode_update, model_digest
from ...protocol.ring import RingVector
from ...protocol.summed_metrics import MetricNames, Value
from ...protocol.ticket import (
    EVALUATE,
    Deadlines,
    SignedTicket,
    Ticket,
    default_min_survivors,
    default_threshold,
)
from ...protocol.trailer import LENGTH, Trailer
from ..shared.records import RECORD, message_bytes, upload_of
from .clipping import Clipping
from .replies import Lost
from .service_link import Server
from .unmasking import Unmasking

log = logging.getLogger("smpcfl.flower")
_WAIT = re.compile(rf"{Reason.TOO_MANY_TICKETS}: again in (\d+) s")
_LONGEST_WAIT_S = 3600
_FAILED = Reason.TOO_FEW_CONTRIBUTORS
_LIMIT = re.compile("policy_[a-z]+")


@dataclass
class Outcome:
    """What a round came to. Bytes are totals over the cohort. No `replies`: the round is void."""

    replies: list[Message] = field(default_factory=list)
    model: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    metrics: dict[str, Value] = field(default_factory=dict)
    """The weighted means of what all contributors reported; none if one of them did not."""
    trailer: Trailer | None = None
    reason: str = ""
    cohort: int = 0
    survivors: int = 0
    contributors: int = 0
    withstood: int | None = None
    bytes_up: float = 0.0
    bytes_down: float = 0.0
    bytes_p2p: float = 0.0
    phase_seconds: dict[str, float] = field(default_factory=dict)
    training_failed: bool = False
    """On so many peers that it is void for that."""
    wait_s: float = 0.0
    """Before the round is run again: peers take so many tickets an hour."""


class SecureRound:
    """Builds the ticket of one round and sees it through.

    `content_digest`: of the messages and the run's configuration; `app`: SHA-256 of the app's bundle;
    `peers`: who is asked, by node, of the `cohort`; `given`: the model, and `summed`: the arrays of it that
    are trained, in an evaluation none; `metrics`: which ones are summed; `within`: the only peers that are to
    survive, if not all.
    """

    def __init__(
        self,
        server: Server,
        *,
        task: str,
        mode: str,
        number: int,
        peers: Mapping[int, str],
        cohort: tuple[str, ...],
        given: Arrays,
        summed: Arrays,
        content_digest: bytes,
        app: bytes,
        width: int,
        clipping: Clipping,
        deadlines: Deadlines,
        metrics: MetricNames,
        weighted_by: str,
        within: Collection[str] | None = None,
    ) -> None:
        self._server = server
        self._peers = peers
        self._summed = summed
        degree = len(cohort) - 1
        threshold = default_threshold(degree)
        self._within = within
        layout = ModelShape.of(summed).layout(width, metrics.words)
        ticket = Ticket(
            run=server.run,
            round=number,
            serial=server.next_serial(),
            nonce=secrets.token_bytes(32),
            mode=mode,
            cohort=cohort,
            threshold=threshold,
            width=width,
            clip=clipping.clip,
            weight_cap=clipping.weight_cap,
            body=layout.body,
            wide=layout.wide,
            min_survivors=default_min_survivors(mode, len(cohort), threshold),
            deadlines=deadlines,
            model_digest=model_digest(given),
            config_digest=config_digest(content_digest, app),
            task=task,
            weighted_by=weighted_by,
            metrics=metrics,
            arrays=tuple(sorted(summed)) if len(summed) < len(given) else (),
        )
        now_ms = int(time.time() * 1000)
        if task == EVALUATE:
            server.ledger.check_evaluation(ticket, now_ms)
        server.ledger.accept(ticket, now_ms)
        self.signed = SignedTicket(ticket, server.signer(ticket.signed_bytes))
        self.silent: set[int] = set()  # nodes that did not reply
        self._refusals: dict[str, str] = {}
        self._outcome = Outcome(cohort=len(cohort), withstood=withstands(ticket))

    def void(self, reason: str) -> Outcome:
        """With what most of the peers that refused gave as their reason.

        LocalError if that is all of them, for one limit of their own: they would refuse every round.
        """
        if self._refusals:
            text, count = Counter(self._refusals.values()).most_common(1)[0]
            limits = {_LIMIT.match(text) for text in self._refusals.values()}
            same = len({limit and limit[0] for limit in limits}) == 1
            if len(self._refusals) == self._outcome.cohort and same and all(limits):
                raise LocalError(f"all {self._outcome.cohort} peers refuse: {text}")
            reason += f"; {count} of {self._outcome.cohort} peers refused: {text}"
        self._outcome.reason = reason
        return self._outcome

    def run(
        self, grid: Grid, messages: list[Message], seed: int | None, grace_s: float, lost: Lost
    ) -> Outcome:
        """RemoteError if the round is void."""
        self._attach(messages, seed)
        return asyncio.run(self._run(grid, messages, grace_s, lost))

    async def _run(
        self, grid: Grid, messages: list[Message], grace_s: float, lost: Lost
    ) -> Outcome:
        outcome, ticket = self._outcome, self.signed.ticket
        outcome.bytes_down = sum(message_bytes(message) for message in messages)
        server = self._server
        async with server.unmasking() as unmasking:
            # Before as well as after: a peer that uploads and then vanishes leaves the roster. And
            # beside the training: a registry that is down costs the round no time.
            before = asyncio.create_task(unmasking.refresh())
            began = time.monotonic()
            replies = await asyncio.to_thread(
                server.ask, grid, messages, ticket.deadlines.upload / 1000, grace_s, lost
            )
            self.silent = {m.metadata.dst_node_id for m in messages} - replies.keys()
            outcome.phase_seconds[ticket.task] = time.monotonic() - began
            if await before:
                await unmasking.refresh()
            state = AggregatorRound(self.signed, server.signer, unmasking.directory.members)
            return await self._finish(state, unmasking, replies)

    def _attach(self, messages: list[Message], seed: int | None) -> None:
        ours = ConfigRecord({"ticket": wire.ticket_to_proto(self.signed).SerializeToString()})
        if seed is not None:
            ours["seed"] = seed
        for message in messages:
            message.content[RECORD] = ours

    async def _finish(
        self, state: AggregatorRound, unmasking: Unmasking, replies: Mapping[int, Message]
    ) -> Outcome:
        outcome = self._outcome
        for node, reply in replies.items():
            self._take(state, self._peers[node], reply)
        self._say_who_refused()
        survivors = state.fix_survivors(self._within)
        if state.ticket.recovers:
            indices = [state.ticket.index(peer) for peer in survivors]
            self._server.ledger.agree(state.ticket, indices, Policy())
        outcome.survivors = len(survivors)
        if state.ticket.recovers:
            began = time.monotonic()
            await unmasking.run(state)
            if not state.enough() and 2 * unmasking.reasons[_FAILED] > outcome.cohort:
                raise RemoteError(
                    _FAILED, "training failed on too many peers: the log of each of them says why"
                )
            outcome.phase_seconds["unmask"] = time.monotonic() - began
            outcome.bytes_up += unmasking.bytes_in
            outcome.bytes_down += unmasking.bytes_out
            if unmasking.p2p_bytes:
                # Only who answers counts what it sent in agree, and not all need to answer.
                outcome.bytes_p2p = outcome.cohort * fmean(unmasking.p2p_bytes.values())
        began = time.monotonic()
        total = state.total()
        outcome.model, outcome.trailer = decode_update(
            state.ticket.quantiser, self._summed, total, len(survivors)
        )
        outcome.contributors = outcome.trailer.contributors
        outcome.metrics = _metrics(state.ticket, total, outcome.trailer)
        outcome.phase_seconds["sum"] = time.monotonic() - began
        return outcome

    def _say_who_refused(self) -> None:
        """One line for each reason: they may be many."""
        for text, count in Counter(self._refusals.values()).items():
            peers = [peer for peer, other in self._refusals.items() if other == text]
            who = peers[0] if count == 1 else f"{count} peers, {peers[0]} among them,"
            log.warning("%s did not upload: %s", who, text)

    def _take(self, state: AggregatorRound, peer: str, reply: Message) -> None:
        """One peer's reply; a bad one is logged and left out."""
        self._outcome.bytes_up += message_bytes(reply)
        if reply.has_error():
            text = self._refusals[peer] = clean(str(reply.error.reason))
            if match := _WAIT.match(text):
                self._outcome.wait_s = max(
                    self._outcome.wait_s, min(int(match[1]), _LONGEST_WAIT_S)
                )
            return
        try:
            meta, vector, p2p_bytes = upload_of(reply)
            state.upload(peer, wire.upload_from(meta, vector))
            self._outcome.bytes_p2p += p2p_bytes
        except ProtocolError as error:
            log.warning("the upload of %s is left out: %s", peer, error)
            if isinstance(error, RemoteError):
                self._server.refused(error)


def _metrics(ticket: Ticket, total: RingVector, counted: Trailer) -> dict[str, Value]:
    """None, with a warning, where somebody's are missing."""
    if counted.reporters < counted.contributors:
        log.warning(
            "no metrics in this round: %d of %d peers had none, or one that was missing, NaN or too large",
            counted.contributors - counted.reporters,
            counted.contributors,
        )
        return {}
    words = total.wide[-LENGTH - ticket.metrics.words : -LENGTH]
    try:
        found = ticket.metrics.decode(words, counted.reporters, counted.examples)
        if ticket.weighted_by in found:
            raise LocalError(f"{ticket.weighted_by!r} is what they are weighted by")
        return found
    except LocalError as error:
        log.warning("no metrics in this round: %s", error)
        return {}
