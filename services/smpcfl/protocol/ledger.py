"""What a peer remembers of each model: under which configuration it trained, and over whom it was summed.

Two sums over one model whose survivors differ by one peer give that peer by subtraction, and so do three
sets that differ pairwise by three: (S1 − S2) + (S1 − S3) − (S1 − S4). So over one model a peer agrees to
two different sets at most, far enough apart, whatever the aggregator says became of the earlier round. And
each has more than two thirds of the other, so that of any three some honest peer would have to agree to all:
else v + A + B, then A, then B would give v, and nobody would see more than two of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from .encoding import digest
from .errors import Reason, RemoteError
from .policy import Policy
from .ticket import EVALUATE, HOUR_MS, Ticket

MAX_SETS = 2


@dataclass(frozen=True)
class Seen:
    """What was done over one model; `configurations`: digests of 32 bytes, `sets`: of peer ids.

    `answered`: whether an unmask was, and `failed`: whether training had failed on some of its survivors.
    `evaluated`: whether this peer agreed to survivors of an evaluation of this model.
    """

    configurations: tuple[bytes, ...] = ()
    sets: tuple[frozenset[str], ...] = ()
    answered: bool = False
    failed: bool = False
    evaluated: bool = False


@dataclass(frozen=True)
class Latest:
    """What evaluations are measured by: digests of models, peer ids, Unix milliseconds.

    `trained`: on which model, and `survivors`: over whom, this peer last agreed to a sum of updates.
    `awaited`: which model was evaluated, at `awaited_ms`, before any training on it.
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
        ticket.metrics.canonical,
    )


def compatible(one: Set[str], other: Set[str], policy: Policy) -> bool:
    """Whether a peer agrees to both of these different sets, of peer ids, over one model."""
    common, larger = len(one & other), max(len(one), len(other))
    return len(one ^ other) >= policy.min_difference and 3 * common > 2 * larger


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
            self._check_evaluation(ticket, now_ms)
            return
        known = self._seen(ticket).configurations
        if configuration(ticket) not in known and len(known) >= policy.max_configurations:
            raise RemoteError(
                Reason.SECOND_CONFIGURATION,
                "this peer was asked for this very model with another configuration, clip, weight cap or"
                " width: start from another model (seed)",
                expected=f"<= {policy.max_configurations} a model",
                found=len(known) + 1,
            )

    def _check_evaluation(self, ticket: Ticket, now_ms: int) -> None:
        """One a model, and of no more models than are trained on: metrics of crafted models are an oracle."""
        latest = self._latest
        if self._seen(ticket).evaluated:
            raise RemoteError(Reason.SECOND_EVALUATION, "this very model was evaluated before")
        waiting = latest.awaited and now_ms < latest.awaited_ms + HOUR_MS
        if waiting and ticket.model_digest not in (latest.awaited, latest.trained):
            raise RemoteError(
                Reason.SECOND_EVALUATION,
                "the model evaluated before has not been trained on since: train on it, or wait an hour",
            )

    def accept(self, ticket: Ticket, now_ms: int) -> None:
        """Keeps that `ticket`, checked before, is followed from now on."""
        self._keep_ticket(now_ms)
        self._tickets = [at for at in self._tickets if at > now_ms - HOUR_MS] + [now_ms]
        latest, model = self._latest, ticket.model_digest
        if ticket.task == EVALUATE:
            if model not in (latest.trained, latest.awaited):
                self._keep_latest(replace(latest, awaited=model, awaited_ms=now_ms))
            return
        if model == latest.awaited:
            self._keep_latest(replace(latest, awaited=b"", awaited_ms=0))
        seen, asked = self._seen(ticket), configuration(ticket)
        if asked not in seen.configurations:
            self._keep(ticket, replace(seen, configurations=(*seen.configurations, asked)))

    def agree(self, ticket: Ticket, survivors: Sequence[int], policy: Policy) -> None:
        """Keeps that this peer agrees to `survivors` (cohort indices); RemoteError if it must not."""
        chosen = frozenset(ticket.cohort[index] for index in survivors)
        seen = self._seen(ticket)
        if ticket.task == EVALUATE:
            self._agree_to_evaluation(ticket, chosen, policy)
            return
        if chosen in seen.sets:
            self._trained(ticket, chosen)
            return
        if len(seen.sets) >= MAX_SETS:
            raise RemoteError(
                Reason.CONFLICTING_SURVIVORS,
                "another survivor set over this model",
                expected=f"<= {MAX_SETS}",
                found=len(seen.sets) + 1,
            )
        for other in seen.sets:
            if not compatible(chosen, other, policy):
                raise RemoteError(
                    Reason.CONFLICTING_SURVIVORS,
                    "differ too little from an earlier set over this model, or share too little with it",
                    expected=f">= {policy.min_difference} apart, > 2/3 in common",
                    found=f"{len(chosen ^ other)} apart, {len(chosen & other)} in common",
                )
        self._keep(ticket, replace(seen, sets=(*seen.sets, chosen)))
        self._trained(ticket, chosen)

    def _trained(self, ticket: Ticket, chosen: frozenset[str]) -> None:
        self._keep_latest(replace(self._latest, trained=ticket.model_digest, survivors=chosen))

    def _agree_to_evaluation(self, ticket: Ticket, chosen: frozenset[str], policy: Policy) -> None:
        """Metrics are compared with those of the training before, and of all on this very model."""
        for before in {self._latest.survivors, *self._seen(ticket).sets} - {frozenset()}:
            if chosen != before and not compatible(chosen, before, policy):
                raise RemoteError(
                    Reason.CONFLICTING_SURVIVORS,
                    "an evaluation, and a training before it",
                    expected=f"equal, or >= {policy.min_difference} apart, > 2/3 in common",
                    found=f"{len(chosen ^ before)} apart, {len(chosen & before)} in common",
                )
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

    def apart(self, model_digest: bytes, peers: Collection[str], policy: Policy) -> frozenset[str]:
        """The most of `peers` that may be a survivor set over this model; none if there is no such set."""
        sets = self._models.get(model_digest, Seen()).sets
        found = [earlier for earlier in sets if earlier <= set(peers)]
        if len(sets) < MAX_SETS:
            rest = set(peers)
            for earlier in sets:
                close = policy.min_difference - len(rest ^ earlier)
                rest -= set(sorted(rest & earlier)[: max(close, 0)])
            if all(compatible(rest, earlier, policy) for earlier in sets):
                found.append(frozenset(rest))
        return max(found, key=len, default=frozenset())

    def evaluators(self, peers: Collection[str], policy: Policy) -> frozenset[str]:
        """The most of `peers` that may be survivors of an evaluation; none if there is no such set."""
        before = self._latest.survivors
        if not before or before <= set(peers):
            return before or frozenset(peers)
        found = frozenset(peers)
        return found if compatible(found, before, policy) else frozenset()

    def _keep_latest(self, latest: Latest) -> None:
        self._write_latest(latest)
        self._latest = latest

    def _seen(self, ticket: Ticket) -> Seen:
        return self._models.get(ticket.model_digest, Seen())

    def _keep(self, ticket: Ticket, seen: Seen) -> None:
        self._keep_model(ticket.model_digest, seen)
        self._models[ticket.model_digest] = seen
