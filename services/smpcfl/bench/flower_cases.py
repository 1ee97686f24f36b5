"""Flower's own FedAvg and SecAgg+ on the same work, in this process: its classes, and no network.

Only what `cases.py` imports when it is needed: Flower takes a second to load.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from functools import lru_cache
from typing import Any, cast

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.client import NumPyClient
from flwr.client.mod import secaggplus_mod
from flwr.clientapp import ClientApp
from flwr.common.serde import recorddict_to_proto
from flwr.server import LegacyContext, SimpleClientManager
from flwr.server.compat.grid_client_proxy import GridClientProxy
from flwr.server.strategy import FedAvg as OlderFedAvg
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD, Key
from flwr.server.workflow.secure_aggregation.secaggplus_workflow import WorkflowState
from flwr.serverapp.strategy import FedAvg
from flwr.supercore.task_identity import TaskIdentity

from ..protocol.ticket import default_threshold
from .inputs import Floats

_EXAMPLES = 100
_RUN = 1
_NAMES = ("_task_id", "_run_id", "_node_id")


@contextmanager
def _in_a_task() -> Iterator[None]:
    """What Flower asks of a process before it makes a message; and without its log."""
    before = {name: getattr(TaskIdentity, name) for name in _NAMES}
    log = logging.getLogger("flwr")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        for name in _NAMES:
            setattr(TaskIdentity, name, _RUN)
        yield
    finally:
        for name, value in before.items():
            setattr(TaskIdentity, name, value)
        log.setLevel(level)


def plain_reply(trained: Floats) -> ArrayRecord:
    """What a client does without any protection: its arrays into a reply."""
    return ArrayRecord([trained])


def _updates(clients: int, parameters: int) -> list[Floats]:
    """What clients that have trained reply with: parameters of about 0.01."""
    rng, scale = np.random.default_rng(2), np.float32(0.01)
    return [rng.standard_normal(parameters, np.float32) * scale for _ in range(clients)]


def plain_server(clients: int, parameters: int) -> Callable[[], object]:
    """FedAvg's aggregation of the replies of so many clients."""
    updates = _updates(clients, parameters)
    metrics, strategy = MetricRecord({"num-examples": _EXAMPLES}), FedAvg()
    with _in_a_task():
        replies = [
            Message(RecordDict({"arrays": ArrayRecord([update]), "metrics": metrics}), 0, "train")
            for update in updates
        ]

    def aggregate() -> ArrayRecord:
        with _in_a_task():
            arrays, _ = strategy.aggregate_train(1, replies)
        assert arrays is not None
        return arrays

    _check_mean(aggregate(), updates, 1e-6)
    return aggregate


@lru_cache(maxsize=1)  # a client's part and the server's are measured one after the other
def secagg_round(clients: int, parameters: int) -> SecAggRound:
    """Of clients with the same updates as `plain_server` has."""
    return SecAggRound(_updates(clients, parameters))


class SecAggRound:
    """A whole round of SecAgg+ with all clients there, once; then a client's or the server's part again.

    Every client shares with every other, and as many shares as in our rounds give a secret back.
    """

    def __init__(self, updates: Sequence[Floats]) -> None:
        self._updates = updates
        self._contexts = {
            node: Context(_RUN, node, {}, RecordDict(), {}) for node in range(1, len(updates) + 1)
        }
        self._app = ClientApp(client_fn=self._client, mods=[secaggplus_mod])
        threshold = default_threshold(len(updates) - 1)
        self._workflow = SecAggPlusWorkflow(1.0, threshold, max_weight=float(_EXAMPLES))
        self._asked: list[list[Message]] = []
        self._replied: list[list[Message]] = []  # by stage
        with _in_a_task():
            context, state, grid = self._server_context(), WorkflowState(), cast(Any, self)
            done = self._workflow.setup_stage(grid, context, state)
            done &= self._workflow.share_keys_stage(grid, context, state)
            self._shared = replace(state)
            self._client_context = deepcopy(self._contexts[1])
            done &= self._workflow.collect_masked_vectors_stage(grid, context, state)
            done &= self._workflow.unmask_stage(grid, context, state)
        if not done:
            raise RuntimeError("SecAgg+ did not complete its round")
        result = context.state.array_records[MAIN_PARAMS_RECORD]
        unit = 2 * self._workflow.clipping_range / self._workflow.quantization_range
        _check_mean(result, updates, 2 * unit)
        (self._fit,) = (one for one in self._asked[2] if one.metadata.dst_node_id == 1)

    def client(self) -> Message:
        """The stage after training: quantises, agrees on keys, and masks."""
        with _in_a_task():
            return self._app(deepcopy(self._fit), deepcopy(self._client_context))

    def server(self) -> ArrayRecord:
        """The stages after it: sums, finds the secrets, and unmasks."""
        context = self._server_context()
        state = replace(self._shared, legacy_results=[], failures=[])
        with _in_a_task():
            for stage, replies in (
                (self._workflow.collect_masked_vectors_stage, self._replied[2]),
                (self._workflow.unmask_stage, self._replied[3]),
            ):
                stage(cast(Any, _Replies(replies)), context, state)
        return context.state.array_records[MAIN_PARAMS_RECORD]

    @property
    def bytes_up(self) -> int:
        """Of one client, all its stages."""
        return sum(
            recorddict_to_proto(reply.content).ByteSize()
            for replies in self._replied
            for reply in replies
            if reply.metadata.src_node_id == 1
        )

    def send_and_receive(
        self, messages: Iterable[Message], timeout: float | None = None
    ) -> list[Message]:
        """As Flower's grid, but the clients are here. Each takes its message apart, so it gets a copy."""
        self._asked.append(list(messages))
        replies = [
            self._app(deepcopy(message), self._contexts[message.metadata.dst_node_id])
            for message in self._asked[-1]
        ]
        self._replied.append(replies)
        return replies

    def _client(self, context: Context) -> Any:
        return _Trained(self._updates[context.node_id - 1]).to_client()

    def _server_context(self) -> LegacyContext:
        n, manager = len(self._updates), SimpleClientManager()
        for node in self._contexts:
            manager.register(GridClientProxy(node, cast(Any, self), _RUN))
        context = LegacyContext(
            Context(_RUN, 0, {}, RecordDict(), {}),
            strategy=OlderFedAvg(min_fit_clients=n, min_available_clients=n),
            client_manager=manager,
        )
        context.state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({Key.CURRENT_ROUND: 1})
        model = np.zeros_like(self._updates[0])
        context.state.array_records[MAIN_PARAMS_RECORD] = ArrayRecord([model])
        return context


class _Trained(NumPyClient):
    """Has trained already."""

    def __init__(self, update: Floats) -> None:
        self._update = update

    def fit(self, parameters: Any, config: Any) -> Any:
        return [self._update], _EXAMPLES, {}


class _Replies:
    """A grid that has them already."""

    def __init__(self, replies: list[Message]) -> None:
        self._replies = replies

    def send_and_receive(
        self, messages: Iterable[Message], timeout: float | None = None
    ) -> list[Message]:
        list(messages)
        return self._replies


def _check_mean(found: ArrayRecord, updates: Sequence[Floats], within: float) -> None:
    (mean,) = found.to_numpy_ndarrays()
    if float(np.abs(mean - np.mean(updates, axis=0, dtype=np.float64)).max()) > within:
        raise RuntimeError("Flower's mean is not the mean of the updates: its figures mean nothing")
