"""A whole round at the aggregator: of one cohort, or of all groups at once, whose sums are added.

A group that is void costs its own part of the round, and no more.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import astuple
from itertools import count
from typing import Any

from flwr.app import Message
from flwr.serverapp import Grid

from ...base.log_events import LogEvent, about
from ...protocol.errors import LocalError, Reason, RemoteError
from ...protocol.quantise import count_floats, new_model
from ...protocol.summed_metrics import Value
from ...protocol.trailer import Trailer
from ...reports.record import GroupRecord
from .lineup_groups import Part
from .replies import Lost
from .secure_round import Outcome, Plan, SecureRound
from .service_link import Server
from .set_aside import SetAside
from .unmasking import Unmasking

log = logging.getLogger("smpcfl.flower")


class SummedRound:
    """`rounds`: one for each cohort that takes part; `out`: those that do not, each with why."""

    def __init__(self, server: Server, plan: Plan, parts: Sequence[Part]) -> None:
        self._server = server
        self._plan = plan
        self.rounds: list[SecureRound] = []
        self.out: list[tuple[Part, str]] = []
        for part in parts:
            if part.chosen is None:
                self.out.append((part, part.reason))
                continue
            try:
                self.rounds.append(SecureRound(server, plan, part))
            except RemoteError as error:
                server.refused(error)
                self.out.append((part, str(error)))
        self._errors: list[RemoteError | None] = [None] * len(self.rounds)

    @property
    def silent(self) -> set[int]:
        """Nodes that did not reply."""
        return set().union(*(round_.silent for round_ in self.rounds))

    def run(
        self,
        grid: Grid,
        message_to: Callable[[int], Message],
        seed: int | None,
        grace_s: float,
        lost: Lost,
    ) -> Outcome:
        """What all cohorts together came to; without a `trailer` where all are void.

        `message_to` makes the message to a node. LocalError as in `SecureRound.void`, if so in all cohorts.
        """
        if not self.rounds:
            return self._with_groups(
                Outcome(reason=self.out[0][1], cohort=sum(part.cohort for part, _ in self.out))
            )
        messages = []
        for round_ in self.rounds:
            own = [message_to(node) for node in round_.peers]
            round_.attach(own, seed)
            messages += own
        phases = asyncio.run(self._run(grid, messages, grace_s, lost))
        outcome = self._combined()
        outcome.phase_seconds = phases
        return outcome

    async def _run(
        self, grid: Grid, messages: list[Message], grace_s: float, lost: Lost
    ) -> dict[str, float]:
        """Seconds by phase."""
        server, plan = self._server, self._plan
        phases: dict[str, float] = {}
        async with server.unmasking() as unmasking:
            # Before as well as after: a peer that uploads and then vanishes leaves the roster. And
            # beside the training: a registry that is down costs the round no time.
            before = asyncio.create_task(unmasking.refresh())
            began = time.monotonic()
            members = unmasking.directory.members
            cohorts = [peer for round_ in self.rounds for peer in round_.ticket.cohort]
            server.begins(plan.number, plan.task, cohorts)
            owner = {node: round_ for round_ in self.rounds for node in round_.peers}
            replied = count(1)

            def take(node: int, reply: Message) -> None:
                owner[node].take(node, reply)
                server.replied(next(replied), len(owner))

            with ExitStack() as stack:
                for round_ in self.rounds:
                    round_.open(members, stack.enter_context(SetAside(server.state)))
                await asyncio.to_thread(
                    server.ask,
                    grid,
                    messages,
                    plan.deadlines.upload / 1000,
                    take,
                    grace_s,
                    lost,
                )
                phases[plan.task] = time.monotonic() - began
                if await before:
                    await unmasking.refresh()
                self._each(SecureRound.fix_survivors)
            # All groups first agree and unmask, which has deadlines; the sums have none.
            began = time.monotonic()
            survivors = [peer for round_ in self.rounds for peer in round_.survivors]
            if self.rounds[0].ticket.recovers:
                server.begins(plan.number, "unmask", cohorts, survivors)
                await asyncio.gather(
                    *(self._unmask(place, unmasking) for place in range(len(self.rounds)))
                )
                phases["unmask"] = time.monotonic() - began
        began = time.monotonic()
        server.begins(plan.number, "sum", cohorts, survivors)
        self._each(SecureRound.sum)
        phases["sum"] = time.monotonic() - began
        return phases

    def _each(self, step: Callable[[SecureRound], None]) -> None:
        """Of those that are not void yet."""
        for place, round_ in enumerate(self.rounds):
            if self._errors[place] is None:
                try:
                    step(round_)
                except RemoteError as error:
                    self._errors[place] = error

    async def _unmask(self, place: int, unmasking: Unmasking) -> None:
        if self._errors[place] is None:
            try:
                await self.rounds[place].unmask(unmasking.another())
            except RemoteError as error:
                self._errors[place] = error

    def _combined(self) -> Outcome:
        refusals = self._void()
        if len(refusals) == len(self.rounds):
            raise refusals[0]
        parts = [round_.outcome for round_ in self.rounds]
        whole = parts[0] if len(parts) == 1 else _added(parts)
        self._sum(whole)
        whole.cohort += sum(part.cohort for part, _ in self.out)
        return self._with_groups(whole)

    def _with_groups(self, whole: Outcome) -> Outcome:
        """With what became of each group, if there are any."""
        records = self.asked
        for part, reason in self.out:
            if part.group is not None:
                records.append(
                    GroupRecord(
                        group=part.group.group,
                        outcome="void",
                        reason=reason,
                        cohort=part.cohort,
                        survivors=0,
                    )
                )
        whole.groups = sorted(records, key=lambda record: record.group)
        return whole

    @property
    def asked(self) -> list[GroupRecord]:
        """What became of the groups that did take part."""
        return [_record(round_) for round_ in self.rounds if round_.group is not None]

    def _void(self) -> list[LocalError]:
        """Says in the outcome of each void cohort why; those whose peers would refuse every round."""
        found = []
        for round_, error in zip(self.rounds, self._errors, strict=True):
            if error is None:
                continue
            round_.outcome.trailer = None
            round_.outcome.training_failed = error.reason is Reason.TOO_FEW_CONTRIBUTORS
            try:
                round_.void(str(error))
            except LocalError as refusal:
                found.append(refusal)
            self._server.refused(error)
            if round_.group is not None:
                log.warning(
                    "group %d is void: %s",
                    round_.ticket.group,
                    round_.outcome.reason,
                    extra=about(LogEvent.GROUP_VOID),
                )
        return found

    def _sum(self, whole: Outcome) -> None:
        """The model, from the sums of all cohorts that have one."""
        complete = [
            (round_.ticket.quantiser, round_.total, round_.outcome.contributors)
            for round_ in self.rounds
            if round_.total is not None and round_.outcome.trailer is not None
        ]
        if whole.trailer is None:
            return
        summed = self._plan.summed
        sums = [(quantiser, total) for quantiser, total, _ in complete]
        count = count_floats(summed)
        clips = [quantiser.fitting_clip(total.body, count, n) for quantiser, total, n in complete]
        whole.fitting_clip = max((clip for clip in clips if clip is not None), default=None)
        whole.model = new_model(summed, sums, whole.trailer.weight)


def _record(round_: SecureRound) -> GroupRecord:
    outcome = round_.outcome
    return GroupRecord(
        group=round_.ticket.group,
        outcome="complete" if outcome.trailer is not None else "void",
        reason=outcome.reason,
        cohort=len(round_.ticket.cohort),
        survivors=outcome.survivors if outcome.trailer is not None else 0,
    )


def _added(parts: Sequence[Outcome]) -> Outcome:
    """All but the model. Where all are void it says why most are, else nothing."""
    complete = [part for part in parts if part.trailer is not None]
    whole = Outcome(
        cohort=sum(part.cohort for part in parts),
        bytes_up=sum(part.bytes_up for part in parts),
        bytes_down=sum(part.bytes_down for part in parts),
        bytes_p2p=sum(part.bytes_p2p for part in parts),
        unmask_up=sum(part.unmask_up for part in parts),
        unmask_down=sum(part.unmask_down for part in parts),
        lost={peer: why for part in parts for peer, why in part.lost.items()},
        # Whoever colludes may be in one group.
        withstood=min(
            (part.withstood for part in complete or parts if part.withstood is not None),
            default=None,
        ),
    )
    if not complete:
        whole.reason = f"all {len(parts)} groups are void, the first: {parts[0].reason}"
        whole.training_failed = all(part.training_failed for part in parts)
        whole.wait_s = max(part.wait_s for part in parts)
        return whole
    whole.survivors = sum(part.survivors for part in complete)
    whole.contributors = sum(part.contributors for part in complete)
    counted = [part.trailer for part in complete if part.trailer is not None]
    whole.trailer = Trailer(*map(sum, zip(*map(astuple, counted), strict=True)))
    whole.metrics = _mean_metrics(
        [(part.metrics, part.trailer) for part in complete if part.trailer]
    )
    return whole


def _mean_metrics(parts: Sequence[tuple[Mapping[str, Value], Trailer]]) -> dict[str, Value]:
    """Weighted by examples, over the groups that have metrics; of these, the names that all have."""
    reported = [(metrics, counted.examples) for metrics, counted in parts if metrics]
    if not reported:
        return {}
    names = [name for name in reported[0][0] if all(name in metrics for metrics, _ in reported)]
    examples = sum(count for _, count in reported)
    found: dict[str, Value] = {}
    for name in names:
        values: Any = [metrics[name] for metrics, _ in reported]
        if isinstance(values[0], list):
            if len({len(value) if isinstance(value, list) else -1 for value in values}) == 1:
                columns = zip(*values, strict=True)
                found[name] = [_mean(column, reported, examples) for column in columns]
        elif not any(isinstance(value, list) for value in values):
            found[name] = _mean(values, reported, examples)
    return found


def _mean(values: Any, reported: Sequence[tuple[Any, int]], examples: int) -> float:
    weights = [count / examples for _, count in reported]
    return float(sum(value * weight for value, weight in zip(values, weights, strict=True)))
