"""Which cohorts a round has: one of all who are there, or each group of the draw, whole or not at all."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ...base.log_events import LogEvent, about
from ...base.waiting import Reminder
from ...protocol.draw import Group
from ...protocol.ledger import Ledger
from ...protocol.policy import Policy
from ...protocol.ticket import default_min_survivors, default_threshold
from .lineup import Chosen, Lineup
from .secure_options import Options
from .service_link import Server

log = logging.getLogger("smpcfl.flower")


@dataclass(frozen=True)
class Part:
    """One cohort of a round. `chosen` is None where it sits out, and `reason` says why.

    `ledger`: what was done with that cohort before; `group`: None where there are no groups.
    """

    ledger: Ledger
    cohort: int
    group: Group | None = None
    chosen: Chosen | None = None
    reason: str = ""


class GroupLineup:
    """`lineup` says who is there, and who takes part where there are no groups."""

    def __init__(self, lineup: Lineup, server: Server, settings: Options) -> None:
        self._lineup = lineup
        self._server = server
        self._settings = settings
        self.groups: tuple[Group, ...] = ()
        """All of the draw that the last round went by."""
        self._trained: set[tuple[int, int]] = set()  # draw and group, in the last training
        self._late = 0

    def to_train(self, sampled: Collection[int], model_digest: bytes) -> list[Part]:
        """At least one that does not sit out. Of the groups, as many as hold what the strategy sampled."""
        reminder = Reminder()
        while self._look():
            parts = self._to_train(self._lineup.present(), len(sampled), model_digest)
            if any(part.chosen for part in parts):
                return parts
            if reminder.is_due():
                log.warning(
                    "waiting: no group can take part, the first one: %s",
                    parts[0].reason,
                    extra=about(LogEvent.WAITING_FOR_PEERS),
                )
            time.sleep(0.5)
        return [self._alone(self._lineup.to_train(sampled, model_digest))]

    def to_evaluate(self) -> list[Part]:
        """Of the groups those of the last training: no peer evaluates more models than it trains on."""
        if not self._look():
            chosen = self._lineup.to_evaluate()
            enough = len(chosen.cohort if chosen.within is None else chosen.within)
            if enough < min(self._settings.min_peers, len(chosen.cohort)):
                reason = f"{enough} peers, at least {self._settings.min_peers} are needed"
                return [Part(self._server.ledger, enough, reason=reason)]
            return [self._alone(chosen)]
        present = self._lineup.present()
        asked = [group for group in self.groups if (group.draw, group.group) in self._trained]
        parts = []
        for group in asked or self.groups:
            peers, within = _of(group, present), None
            if self._settings.recovers:
                within = self._server.ledger_of(group).evaluators(peers.values(), Policy())
            parts.append(self._part(group, peers, within))
        return parts

    def _look(self) -> bool:
        """Whether there are groups."""
        self.groups = self._server.groups()
        return bool(self.groups)

    def _alone(self, chosen: Chosen) -> Part:
        return Part(self._server.ledger, len(chosen.cohort), chosen=chosen)

    def _to_train(
        self, present: Mapping[int, str], sampled: int, model_digest: bytes
    ) -> list[Part]:
        drawn = {node: peer for group in self.groups for node, peer in _of(group, present).items()}
        self._report_late(len(present) - len(drawn))
        order = list(self.groups)
        if sampled < len(drawn):
            random.shuffle(order)
        parts: list[Part] = []
        asked = 0
        for group in order:
            if asked >= min(sampled, len(drawn)):
                break
            peers = _of(group, present)
            parts.append(self._part(group, peers, self._within(group, peers, model_digest)))
            asked += len(peers)
        self._trained = {(part.group.draw, part.group.group) for part in parts if part.group}
        return sorted(parts, key=lambda part: part.group.group if part.group else 0)

    def _within(
        self, group: Group, peers: Mapping[int, str], model_digest: bytes
    ) -> frozenset[str] | None:
        """Over a model that was summed before, the same survivors; nobody if some of them are missing."""
        if not self._settings.recovers:
            return None
        ledger = self._server.ledger_of(group)
        if (before := ledger.again(model_digest, peers.values())) is not None:
            return before[1]
        return frozenset() if ledger.missing(model_digest, peers.values()) else None

    def _part(self, group: Group, peers: dict[int, str], within: frozenset[str] | None) -> Part:
        ledger, size = self._server.ledger_of(group), len(group.cohort)
        least = default_min_survivors(self._settings.mode, size, default_threshold(size - 1))
        reason = ""
        if len(peers) < least:
            reason = f"{len(peers)} of {size} members are there, at least {least} are needed"
        elif within is not None and len(within) < least:
            reason = "over this model a sum was agreed to before, and not all of that one are there"
        chosen = None if reason else Chosen(peers, group.cohort, within)
        return Part(ledger, size, group, chosen, reason)

    def _report_late(self, late: int) -> None:
        if late > self._late:
            log.warning(
                "%d peers are not in draw %d and sit out: they came later, and wait for the next one"
                " (`smpcfl draw` at the registry)",
                late,
                self.groups[0].draw,
                extra=about(LogEvent.SITS_OUT),
            )
        self._late = late


def _of(group: Group, present: Mapping[int, str]) -> dict[int, str]:
    """Of the nodes that are there, the group's."""
    members = frozenset(group.cohort)
    return {node: peer for node, peer in present.items() if peer in members}
