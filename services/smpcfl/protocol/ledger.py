"""What a peer remembers of each model: under which configuration it trained, and over whom it was summed.

Two sums over one model whose survivors differ by one peer give that peer by subtraction, and so do four
sets that differ pairwise by three: (S1 − S2) + (S1 − S3) − (S1 − S4). So over one model a peer agrees to
two different sets at most, whatever the aggregator says became of the earlier round, and they differ by
two peers more than may collude. An agreement names the other set, so that peers hear of one that they have
not seen themselves, and cohorts over one model are so alike that of those who agree in two rounds, or
answer, some are the same honest peers: in any two rounds that share a peer with a third one. Without that,
v ∪ A ∪ B, then A, then B would give v.

What a peer uploads in a round whose survivors nobody shows it, it does not remember (docs/threat-model.md).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from .encoding import digest
from .errors import Reason, RemoteError
from .guarantee import most_colluders, withstands
from .policy import Policy
from .ticket import (
    EVALUATE,
    HOUR_MS,
    SEEDED,
    Ticket,
    default_min_survivors,
    default_threshold,
)

MAX_SETS = 2


@dataclass(frozen=True)
class Cohort:
    """Whose round one was; `colluders`: how many it withstands."""

    peers: frozenset[str]
    threshold: int
    colluders: int

    @classmethod
    def of(cls, ticket: Ticket) -> Cohort:
        return cls(frozenset(ticket.cohort), ticket.threshold, withstands(ticket))

    @classmethod
    def by_default(cls, peers: Collection[str]) -> Cohort:
        """As the aggregator makes them up."""
        threshold = default_threshold(len(peers) - 1)
        survivors = default_min_survivors(SEEDED, len(peers), threshold)
        return cls(frozenset(peers), threshold, most_colluders(len(peers), threshold, survivors))

    def beside(self, other: Cohort) -> bool:
        """Whether two rounds over one model may have these cohorts.

        Two that are both beside a third are then so alike that |union| <= t + t' − c, whether any peer saw
        both or not: of t + 1 who agree in either, and of those who answer, two honest peers are the same.
        """
        most = max(self.colluders, other.colluders)
        return all(
            len(two.peers) + 2 * len(one.peers - two.peers) + most <= 2 * one.threshold
            for one, two in ((self, other), (other, self))
        )


@dataclass(frozen=True)
class Seen:
    """What was done over one model; `configurations`: digests of 32 bytes, `sets`: of peer ids.

    `cohorts`: of the rounds in which this peer agreed to them.
    `answered`: whether an unmask was, and `failed`: whether training had failed on some of its survivors.
    `evaluated`: whether this peer agreed to survivors of an evaluation of this model. `draw`: the one that
    these cohorts come from.
    """

    configurations: tuple[bytes, ...] = ()
    sets: tuple[frozenset[str], ...] = ()
    cohorts: tuple[Cohort, ...] = ()
    answered: bool = False
    failed: bool = False
    evaluated: bool = False
    draw: int = 0


@dataclass(frozen=True)
class Latest:
    """What evaluations are measured by: digests of models, peer ids, Unix milliseconds.

    `trained`: on which model, and `survivors`: over whom, this peer last agreed to a sum of updates.
    `awaited`: which model was evaluated, at `awaited_ms`, and no training has begun since.
    """

    trained: bytes = b""
    survivors: frozenset[str] = frozenset()
    awaited: bytes = b""
    awaited_ms: int = 0


def configuration(ticket: Ticket) -> bytes:
    """Digest of everything but the model that shapes an update: one a model."""
    return digest(
        "configuration",
        ticket.config_digest,
        ticket.clip,
        ticket.weight_cap,
        ticket.width,
        ticket.weighted_by,
        list(ticket.arrays),
    )


def set_digest(peers: Collection[str]) -> bytes:
    """Names a set of peers in an agreement, 32 bytes."""
    return digest("survivor set", *sorted(peers))


def difference(policy: Policy, colluders: int) -> int:
    """In how many peers two sets over one model differ at least: two of those are honest."""
    return max(policy.min_difference, colluders + 2)


class Ledger:
    """The rules, over what is kept. The `keep` functions write before they return; whatever they raise leaves
    the ledger as it was. `tickets`: when tickets were accepted, Unix milliseconds.
    """

    def __init__(
        self,
        models: Mapping[bytes, Seen] | None = None,
        tickets: Sequence[int] = (),
        keep_model: Callable[[bytes, Seen], None] = lambda model, seen: None,
        keep_ticket: Callable[[int], None] = lambda at_ms: None,
        latest: Latest = Latest(),
        keep_latest: Callable[[Latest], None] = lambda latest: None,
    ) -> None:
        self._models = dict(models or {})
        self._tickets = list(tickets)
        self._keep_model = keep_model
        self._keep_ticket = keep_ticket
        self._latest = latest
        self._write_latest = keep_latest

    def check(self, ticket: Ticket, policy: Policy, now_ms: int) -> None:
        """RemoteError if `ticket` is one too many, or asks for this model in another configuration."""
        recent = sorted(at for at in self._tickets if at > now_ms - HOUR_MS)
        if len(recent) >= policy.tickets_per_hour:
            wait_s = (recent[-policy.tickets_per_hour] + HOUR_MS - now_ms) // 1000 + 1
            raise RemoteError(
                Reason.TOO_MANY_TICKETS,
                f"again in {wait_s} s",
                expected=f"<= {policy.tickets_per_hour} an hour",
                found=len(recent) + 1,
            )
        if ticket.task == EVALUATE:
            self.check_evaluation(ticket, now_ms)
            return
        own, seen = Cohort.of(ticket), self._seen(ticket)
        if seen.cohorts and ticket.draw != seen.draw:
            raise RemoteError(
                Reason.SECOND_DRAW,
                "a sum over this model was agreed to in the groups of another draw: start from another model",
                expected=f"draw {seen.draw}",
                found=ticket.draw,
            )
        if ticket.recovers and not all(own.beside(earlier) for earlier in seen.cohorts):
            raise RemoteError(
                Reason.CONFLICTING_COHORTS,
                "another cohort than in an earlier round over this model: too many are in one of them alone",
            )
        known = seen.configurations
        if configuration(ticket) not in known and len(known) >= policy.max_configurations:
            raise RemoteError(
                Reason.SECOND_CONFIGURATION,
                "this peer was asked for this very model with another configuration, clip, weight cap,"
                " width or part: start from another model (seed)",
                expected=f"<= {policy.max_configurations} a model",
                found=len(known) + 1,
            )

    def check_evaluation(self, ticket: Ticket, now_ms: int) -> None:
        """RemoteError(SECOND_EVALUATION) unless this model may be evaluated.

        One a model, and of no more models than are trained on: metrics of crafted models are an oracle.
        """
        latest = self._latest
        if self._seen(ticket).evaluated:
            raise RemoteError(Reason.SECOND_EVALUATION, "this very model was evaluated before")
        waiting = latest.awaited and now_ms < latest.awaited_ms + HOUR_MS
        if waiting and ticket.model_digest not in (latest.awaited, latest.trained):
            raise RemoteError(
                Reason.SECOND_EVALUATION,
                "another model was evaluated before, and nothing trained since: train, or wait an hour",
            )

    def accept(self, ticket: Ticket, now_ms: int) -> None:
        """Keeps that `ticket`, checked before, is followed from now on."""
        self._keep_ticket(now_ms)
        self._tickets = [at for at in self._tickets if at > now_ms - HOUR_MS] + [now_ms]
        latest, model = self._latest, ticket.model_digest
        if ticket.task == EVALUATE:
            if not ticket.recovers:  # nobody will agree to survivors
                self._keep(ticket, replace(self._seen(ticket), evaluated=True))
            if model not in (latest.trained, latest.awaited):
                self._keep_latest(replace(latest, awaited=model, awaited_ms=now_ms))
            return
        if latest.awaited:
            self._keep_latest(replace(latest, awaited=b"", awaited_ms=0))
        seen, asked = self._seen(ticket), configuration(ticket)
        if asked not in seen.configurations:
            self._keep(ticket, replace(seen, configurations=(*seen.configurations, asked)))

    def agree(self, ticket: Ticket, survivors: Sequence[int], policy: Policy) -> bytes:
        """Keeps that this peer agrees to `survivors` (cohort indices); RemoteError if it must not.

        The digest of the other set over this model that it agreed to, empty if there is none.
        """
        chosen = frozenset(ticket.cohort[index] for index in survivors)
        seen = self._seen(ticket)
        if ticket.task == EVALUATE:
            self._agree_to_evaluation(ticket, chosen, policy)
            return b""
        others = [item for item in seen.sets if item != chosen]
        earlier = set_digest(others[0]) if others else b""
        if (own := Cohort.of(ticket)) not in seen.cohorts:
            seen = replace(seen, cohorts=(*seen.cohorts, own), draw=ticket.draw)
        if chosen in seen.sets:
            self._keep(ticket, seen)
            self._trained(ticket, chosen)
            return earlier
        if len(seen.sets) >= MAX_SETS:
            raise RemoteError(
                Reason.CONFLICTING_SURVIVORS,
                "another survivor set over this model",
                expected=f"<= {MAX_SETS}",
                found=len(seen.sets) + 1,
            )
        _check_apart(chosen, seen.sets, difference(policy, withstands(ticket)))
        self._keep(ticket, replace(seen, sets=(*seen.sets, chosen)))
        self._trained(ticket, chosen)
        return earlier

    def _trained(self, ticket: Ticket, chosen: frozenset[str]) -> None:
        self._keep_latest(replace(self._latest, trained=ticket.model_digest, survivors=chosen))

    def _agree_to_evaluation(self, ticket: Ticket, chosen: frozenset[str], policy: Policy) -> None:
        """Metrics are compared with those of the training before, and of all on this very model."""
        others = {self._latest.survivors, *self._seen(ticket).sets} - {frozenset()}
        _check_apart(chosen, others, difference(policy, withstands(ticket)))
        self._keep(ticket, replace(self._seen(ticket), evaluated=True))

    def answer(self, ticket: Ticket, failed: int) -> None:
        """Keeps that this peer answers an unmask in which `failed` of the survivors had not trained.

        RemoteError for a second one over this model if either has such survivors: the sets are compared by
        who uploaded, and a zero more or less under one set is a peer more or less in the sum.
        """
        seen = self._seen(ticket)
        if seen.answered and (seen.failed or failed):
            raise RemoteError(
                Reason.CONFLICTING_SURVIVORS,
                "another sum over this model was answered, and training failed on somebody in one of them",
            )
        if ticket.task == EVALUATE:
            return  # trainings go on, whoever failed there
        self._keep(ticket, replace(seen, answered=True, failed=bool(failed)))

    # -- for the aggregator, which asks itself what peers will agree to ---------------------------------

    def apart(self, model_digest: bytes, peers: Collection[str], policy: Policy) -> frozenset[str]:
        """The most of `peers` that may be a cohort and survive, over this model; or none."""
        seen, rest = self._models.get(model_digest, Seen()), frozenset(peers)
        for earlier in seen.cohorts:
            if not Cohort.by_default(rest).beside(earlier):
                rest &= earlier.peers
        found = [
            earlier
            for earlier in seen.sets
            if earlier <= rest and _may_be_asked(Cohort.by_default(earlier), seen)
        ]
        if len(seen.sets) < MAX_SETS:
            for other in seen.sets:
                least = difference(policy, Cohort.by_default(rest).colluders)
                rest -= frozenset(sorted(rest & other)[: max(least - len(rest ^ other), 0)])
            if _may_survive(rest, seen, policy):
                found.append(rest)
        return max(found, key=len, default=frozenset())

    def again(
        self, model_digest: bytes, peers: Collection[str]
    ) -> tuple[frozenset[str], frozenset[str]] | None:
        """A cohort that was asked before, and its survivors, if these are all among `peers`."""
        seen = self._models.get(model_digest, Seen())
        for chosen in reversed(seen.sets):
            for earlier in reversed(seen.cohorts):
                if chosen <= earlier.peers and chosen <= set(peers):
                    return earlier.peers, chosen
        return None

    def missing(self, model_digest: bytes, peers: Collection[str]) -> list[str]:
        """Who of the last set over this model is not among `peers`."""
        sets = self._models.get(model_digest, Seen()).sets
        return sorted(sets[-1] - set(peers)) if sets else []

    def evaluators(self, peers: Collection[str], policy: Policy) -> frozenset[str]:
        """The most of `peers` that may be survivors of an evaluation; none if there is no such set."""
        before, found = self._latest.survivors, frozenset(peers)
        if not before or before <= found:
            return before or found
        least = difference(policy, Cohort.by_default(peers).colluders)
        return found if len(found ^ before) >= least else frozenset()

    def _keep_latest(self, latest: Latest) -> None:
        self._write_latest(latest)
        self._latest = latest

    def _seen(self, ticket: Ticket) -> Seen:
        return self._models.get(ticket.model_digest, Seen())

    def _keep(self, ticket: Ticket, seen: Seen) -> None:
        self._keep_model(ticket.model_digest, seen)
        self._models[ticket.model_digest] = seen


def _check_apart(chosen: Set[str], others: Collection[Set[str]], least: int) -> None:
    for other in others:
        if chosen != other and len(chosen ^ other) < least:
            raise RemoteError(
                Reason.CONFLICTING_SURVIVORS,
                "differ too little from an earlier set",
                expected=f"equal, or >= {least} apart",
                found=f"{len(chosen ^ other)} apart",
            )


def _may_survive(chosen: frozenset[str], seen: Seen, policy: Policy) -> bool:
    if len(chosen) < 2:
        return False
    own = Cohort.by_default(chosen)
    least = difference(policy, own.colluders)
    return all(len(chosen ^ other) >= least for other in seen.sets) and _may_be_asked(own, seen)


def _may_be_asked(cohort: Cohort, seen: Seen) -> bool:
    return all(cohort.beside(earlier) for earlier in seen.cohorts)
