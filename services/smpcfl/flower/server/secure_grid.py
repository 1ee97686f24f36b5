"""The Grid that a strategy sends through: what goes out is one secure round, what comes back is its mean.

A strategy that needs only averages notices nothing: its own loop runs, and each message that would bring a
client's update in the clear takes part in a round of the cohort instead (docs/protocol.md, section 5).
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.common.config import get_fused_config
from flwr.serverapp import Grid

from ...base.log_events import LogEvent, about, during
from ...base.state import State
from ...protocol.errors import LocalError
from ...protocol.quantise import ROTATED, Arrays, model_digest
from ...protocol.summed_metrics import MetricNames
from ...protocol.ticket import EVALUATE, MODES, TRAIN
from ...reports.pictures import SUM
from ...reports.record import RoundRecord
from ..shared.records import (
    arrays_of,
    content_digest,
    plain_bytes,
    to_numpy,
    with_arrays,
)
from .clipping import Clipping
from .grid_around import GridAround
from .lineup import Lineup
from .lineup_groups import GroupLineup
from .plain_round import PlainRound
from .round_record import OpenRound
from .secure_options import Options
from .secure_round import Outcome, Plan
from .simulated import server_of
from .summed_round import SummedRound
from .suspects import Suspects
from .uneven import uneven

log = logging.getLogger("smpcfl.flower")
_FAILED_ROUNDS = 2  # one may be an accident that all peers share


class SecureGrid(GridAround):
    """Wraps Flower's Grid for one ServerApp. In mode `normal` replies come in the clear, as they are.

    After a void round, where nobody replies, the next one sends what the first one over that model did: peers
    take one configuration a model.
    """

    def __init__(self, grid: Grid, settings: Options) -> None:
        super().__init__(grid)
        self.settings = settings
        self.server = server_of(grid, settings.mode)
        self.clipping = settings.clipping or Clipping()
        self._limited = settings.clipping is not None or settings.width != ROTATED
        self.number = 0  # of the last round
        self.first_try = 1  # the round that first trained on the model as it stands
        self.records: list[RoundRecord] = []
        self.evaluated_later = False  # the server evaluates after the clients, and a record waits
        self.on_record: Callable[[RoundRecord], None] = lambda record: None
        self.metrics = {kind: MetricNames(open=True) for kind in (TRAIN, EVALUATE)}
        self._lineup = Lineup(grid, self.server, settings.min_peers, recovers=settings.recovers)
        self._groups = GroupLineup(self._lineup, self.server, settings)
        kept = State(self.server.state).suspects if self.server.own is not None else None
        self._suspects = Suspects(kept)
        self._dtypes: dict[str, np.dtype[Any]] = {}  # of the first model
        self._model = b""  # digest of the one trained on last
        self._first: RecordDict | None = None  # the message of its first round
        self._next: Clipping | None = None  # what follows from the last sum, for another model
        self._uneven: set[str] = set()  # arrays that were warned of
        self._plain_bytes = 0  # of one update
        self._open: OpenRound | None = None
        self._trained = False  # whether a round was complete
        self._failed = 0  # rounds in a row, before the first complete one

    # -- Flower's Grid --------------------------------------------------------------------------

    def get_node_ids(self) -> Iterable[int]:
        """Of the peers that are there; waits until they are `min_peers`."""
        return list(self._lineup.present())

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        if self.settings.secure:
            raise LocalError(
                "push_messages() would bring single replies in the clear: use send_and_receive()"
            )
        return self._grid.push_messages(messages)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """One round. No replies: it is void, or there was nothing to send."""
        sent = list(messages)
        if not sent:
            if not self.evaluated_later:
                self.flush()
            return []
        kinds = {message.metadata.message_type for message in sent}
        if len(kinds) > 1:
            raise LocalError(f"messages of different types in one round: {sorted(kinds)}")
        kind = kinds.pop().partition(".")[0]
        if kind == TRAIN:
            with during(run=self.server.run, round=self.number + 1):
                return self._train(sent, timeout)
        if kind == EVALUATE:
            with during(run=self.server.run, round=self.number):
                return self._evaluate(sent, timeout)
        if self.settings.secure:
            raise LocalError(
                f"a {kind} message would bring single replies in the clear: only train and evaluate are"
                " summed"
            )
        return self._grid.send_and_receive(sent, timeout=timeout)

    # -- rounds ---------------------------------------------------------------------------------

    def _train(self, messages: list[Message], timeout: float | None) -> list[Message]:
        self.flush()
        self.number += 1
        opened = self._open = OpenRound(self.number, time.monotonic())
        if not self.settings.secure:
            opened.outcome = self._in_the_clear(messages, timeout)
        else:
            content = self._content(messages)
            tries = MODES[self.settings.mode].tries
            while not opened.outcome.replies and not opened.outcome.training_failed and tries:
                opened.tried(self._sum(TRAIN, messages, content))
                if opened.outcome.wait_s and not opened.outcome.replies:
                    self._wait(opened.outcome.wait_s)
                    continue
                tries -= 1
                if tries and not opened.outcome.replies:
                    log.warning(
                        "round %d is run again with who is there",
                        self.number,
                        extra=about(LogEvent.ROUND_AGAIN),
                    )
        outcome, self._next = opened.outcome, None
        if outcome.trailer is not None:
            self._next = self.clipping.after(outcome.trailer, outcome.fitting_clip)
        opened.seconds = time.monotonic() - opened.started
        self._end_if_nothing_trains(opened.outcome)
        return opened.outcome.replies

    def _end_if_nothing_trains(self, outcome: Outcome) -> None:
        """LocalError once training failed on too many peers in the first rounds: it would in all others."""
        self._trained = self._trained or bool(outcome.replies)
        self._failed = self._failed + 1 if outcome.training_failed else 0
        if self._failed == _FAILED_ROUNDS and not self._trained:
            self.flush()
            raise LocalError(
                f"the first {_FAILED_ROUNDS} rounds are void, the last one: {outcome.reason}"
                " (in containers: `docker compose logs peer`)"
            )

    def _wait(self, seconds: float) -> None:
        # Not a try: it would be the same for all rounds of the next hour.
        log.warning(
            "peers take no more tickets in this hour (their SMPCFL_TICKETS_PER_HOUR): round %d is run again"
            " in %.0f s",
            self.number,
            seconds,
            extra=about(LogEvent.ROUND_AGAIN),
        )
        time.sleep(seconds)

    def _evaluate(self, messages: list[Message], timeout: float | None) -> list[Message]:
        """A round of metrics alone. Where it is void there are none, and training goes on."""
        started = time.monotonic()
        if self.settings.secure:
            content, _ = self._same_types(_same(messages))
            outcome = self._sum(EVALUATE, messages, content)
        else:
            outcome = self._in_the_clear(messages, timeout)
        if self._open is not None:
            self._open.add(outcome, time.monotonic() - started)
            if not self.evaluated_later:
                self.flush()
        return outcome.replies

    def evaluated(self, metrics: MetricRecord | None) -> None:
        """The server has evaluated the global model, after the clients."""
        if self._open is not None and metrics is not None:
            self._open.evaluated = metrics
        self.flush()

    def flush(self) -> None:
        """The last round is over: nothing more will be known of it."""
        if (opened := self._open) is None:
            return
        self._open = None
        record = opened.record(self.server.run, self.settings.mode, self._lineup.flower_seconds)
        self.on_record(record)
        self.records.append(record)
        self.server.record(record)

    def _content(self, messages: list[Message]) -> RecordDict:
        """What all get: dtypes as they came in first, and one configuration a model."""
        content, model = self._same_types(_same(messages))
        for name, record in content.items():
            if not isinstance(record, ArrayRecord):  # strategies write the next round's into it
                content[name] = copy.deepcopy(record)
        self._settle(model, self.number)
        if self._first is None:
            self._first = content
        return self._first

    def _same_types(self, content: RecordDict) -> tuple[RecordDict, dict[str, Any]]:
        """And the model in it. For peers a model of other dtypes is another model."""
        given = arrays_of(content)
        model = self._as_they_came_in(given)
        # A model that stays as it is is not written out once more: that takes as much memory again.
        same = all(model[name] is array for name, array in given.items())
        return RecordDict(dict(content)) if same else with_arrays(content, model), model

    def _as_they_came_in(self, model: dict[str, Any]) -> dict[str, Any]:
        """Some strategies calculate in float64, and means of integers are no integers."""
        if not self._dtypes:
            self._dtypes = {name: array.dtype for name, array in model.items()}
        return {name: _cast(array, self._dtypes.get(name)) for name, array in model.items()}

    def resume(
        self,
        done: int,
        clipping: Clipping,
        first_try: int,
        metrics: Mapping[str, Sequence[tuple[str, int]]],
        initial: ArrayRecord,
        arrays: ArrayRecord,
    ) -> None:
        """Goes on after round `done`, with `arrays` as the model, as a checkpoint has it."""
        self._as_they_came_in(to_numpy(initial))
        self.number, self.clipping, self.first_try = done, clipping, first_try
        self._limited = self._limited or done > 0
        self._trained = first_try > 1
        for task, named in metrics.items():
            self.metrics[task] = MetricNames(tuple((name, length) for name, length in named))
        self._model = model_digest(self._as_they_came_in(to_numpy(arrays)))

    def settle(self, arrays: ArrayRecord) -> None:
        """The strategy has made `arrays` of the last round: what the next one trains on."""
        self._settle(self._as_they_came_in(to_numpy(arrays)), self.number + 1)

    def _settle(self, model: dict[str, Any], first_try: int) -> None:
        """A new model has new limits. Over one that stays as it was peers take no others."""
        digest = model_digest(model)
        if digest == self._model:
            return
        if self._next is not None:
            self.clipping, self._next = self._next, None
        self._model, self._first, self.first_try = digest, None, first_try

    def _sum(self, task: str, messages: list[Message], content: RecordDict) -> Outcome:
        """One secure round over `content`. No replies: it is void."""
        given, kind = arrays_of(content), messages[0].metadata.message_type
        if task == TRAIN:
            sampled = [message.metadata.dst_node_id for message in messages]
            parts = self._groups.to_train(sampled, self._model)
            summed = self.settings.summed(given)
            self._plain_bytes = self._plain_bytes or plain_bytes(given)
            if not self._limited:
                self.clipping, self._limited = Clipping.fitting(summed), True
        else:
            parts, summed = self._groups.to_evaluate(), {}
        plan = Plan(
            task=task,
            mode=self.settings.mode,
            number=max(self.number, 1),
            given=given,
            summed=summed,
            content_digest=content_digest(content, kind, get_fused_config(self.run)),
            app=bytes.fromhex(self.run.fab_hash),
            width=self.settings.width,
            clipping=self.clipping,
            deadlines=self.settings.deadlines,
            metrics=self.metrics[task],
            weighted_by=self.settings.weighted_by,
        )
        round_ = SummedRound(self.server, plan, parts)
        try:
            outcome = round_.run(
                self._grid,
                lambda node: _message(messages[0], content, node),
                self.settings.seed,
                self.settings.grace_s,
                self._lineup.lost,
            )
        finally:
            self._lineup.missed(round_.silent)
        if outcome.groups:
            outcome.draw = self._groups.groups[0].draw
        outcome.plain_bytes = self._plain_bytes
        if task == TRAIN and outcome.groups:
            outcome.suspected = self._suspects.take(
                self._groups.groups, self.server.run, self.number, round_.asked
            )
        if outcome.trailer is None:
            what = f"round {self.number}" if task == TRAIN else "the evaluation"
            log.warning("%s is void: %s", what, outcome.reason, extra=about(LogEvent.ROUND_VOID))
            return outcome
        if self.metrics[task].open and outcome.metrics:
            self.metrics[task] = MetricNames.of(outcome.metrics)
            log.info("%s metrics: %s", task, ", ".join(outcome.metrics))
        if self.settings.width == ROTATED:
            self._warn_of_uneven(summed, outcome.model)
        if self.server.seen is not None and task == TRAIN:
            self.server.seen.change(SUM, "", self.number, summed, outcome.model)
        outcome.replies = [_reply(task, content, outcome, self.settings.weighted_by)]
        outcome.model = {}
        return outcome

    def _in_the_clear(self, messages: list[Message], timeout: float | None) -> Outcome:
        nodes = [message.metadata.dst_node_id for message in messages]
        plain = PlainRound(self._grid, self.server, self.settings, self._lineup.names(nodes))
        return plain.run(self.number, messages, timeout)

    def _warn_of_uneven(self, before: Arrays, after: Arrays) -> None:
        """Once of each array."""
        for name, times in uneven(before, after).items():
            if name not in self._uneven:
                self._uneven.add(name)
                log.warning(
                    "array %r changed %.0f times as much as half of the model's entries: with width=8 all"
                    " share one unit, too coarse for those; take width=16, or leave it out with arrays=[...]",
                    name,
                    times,
                )


def _same(messages: list[Message]) -> RecordDict:
    """What all messages hold. LocalError if they differ: their digest is one for all."""
    content, kind = messages[0].content, messages[0].metadata.message_type
    for message in messages[1:]:
        if message.content is content:
            continue
        same = content_digest(message.content, kind, {}) == content_digest(content, kind, {})
        if not same or model_digest(arrays_of(message.content)) != model_digest(arrays_of(content)):
            raise LocalError(
                "the strategy's messages differ from client to client: in a secure round all get the same"
            )
    return content


def _message(template: Message, content: RecordDict, node: int) -> Message:
    about = template.metadata
    return Message(
        RecordDict(dict(content)),
        node,
        about.message_type,
        ttl=about.ttl,
        group_id=about.group_id,
    )


def _reply(task: str, content: RecordDict, outcome: Outcome, weighted_by: str) -> Message:
    """The survivors as one client."""
    assert outcome.trailer is not None
    records: dict[str, Any] = {}
    if task == TRAIN:
        trained = with_arrays(content, outcome.model)
        records = {key: value for key, value in trained.items() if key in trained.array_records}
    records["metrics"] = MetricRecord({weighted_by: outcome.trailer.examples, **outcome.metrics})
    return Message(_AnyName(records), 0, task)


class _AnyName(RecordDict):
    """Has its one MetricRecord under each name: what the apps call theirs reaches no aggregator."""

    def __getitem__(self, key: str) -> Any:
        return super().__getitem__(key if key in self else "metrics")


def _cast(array: npt.NDArray[Any], dtype: np.dtype[Any] | None) -> npt.NDArray[Any]:
    if dtype is None or array.dtype == dtype:
        return array
    return np.asarray(array if dtype.kind == "f" else np.rint(array)).astype(dtype)
