"""Into how many slices the data are cut: `num-partitions` of the node config, where the operator gave none.

How many peers there are is known only once they are there, so it is the roster's number when this peer
is first sent a model to train. Then it stays: a peer whose slice moved with the roster would train on one
model with different data, and the difference of the sums would be for the aggregator to read.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from typing import Any

from flwr.proto.message_pb2 import ObjectTree
from flwr.supernode import start_client_internal as supernode
from flwr.supernode.nodestate import NodeState

from smpc.v1 import registry_pb2 as pb

from ..base.files import StorageError, read_number, write_private
from ..base.log_events import LogEvent, about
from ..base.node_config import INDEX, NUMBER, Value
from ..base.state import State
from ..protocol.errors import LocalError

log = logging.getLogger("smpcfl.supernode")


def install(folder: State) -> None:
    """In a SuperNode's process, before `supernode.install`. LocalError if this Flower is another than we
    know."""
    original = supernode._pull_and_store_message
    if not {"state", "node_config", "receive"} <= inspect.signature(original).parameters.keys():
        raise LocalError("this version of flwr configures nodes in another way: see pyproject.toml")

    @functools.wraps(original)
    def pull_and_store(
        *,
        state: NodeState,
        node_config: dict[str, Value],
        receive: Callable[[], Any],
        **others: Any,
    ) -> int | None:
        def received() -> Any:
            found = receive()
            if found is not None and NUMBER not in node_config:
                message, tree = found
                if _carries_a_model(tree):
                    node_config[NUMBER] = number(folder, node_config.get(INDEX, 0))
                    _tell_run(state, message.metadata.run_id, node_config[NUMBER])
            return found

        return original(state=state, node_config=node_config, receive=received, **others)

    supernode._pull_and_store_message = pull_and_store  # type: ignore[assignment]


def _carries_a_model(tree: ObjectTree) -> bool:
    """Whether the message has a record of arrays: these alone have parts. One that asks a node who it is
    has none, and comes as soon as the node is there, before the others are."""
    return any(record.children for content in tree.children for record in content.children)


def _tell_run(state: NodeState, run_id: int, found: Value) -> None:
    """Flower made the run's context for its first message, which may have been one without a model."""
    if (run := state.get_run(run_id)) is None:
        return
    if (context := state.get_run_series_context(run.series_id)) is not None:
        context.node_config[NUMBER] = found
        state.set_run_series_context(run.series_id, context)


def number(folder: State, index: Any) -> int:
    """As it was fixed in `folder`, or now from the kept roster; above `index` in any case."""
    least = index + 1 if isinstance(index, int) else 1
    try:
        kept = read_number(folder.partitions)
        if kept >= least:
            return kept
    except (StorageError, OSError) as error:
        log.warning(
            "the number of data slices is decided anew: %s",
            error,
            extra=about(LogEvent.STORAGE_FAILED),
        )
    found = max(least, *(index + 1 for index in _indices(folder)), 1)
    try:
        write_private(folder.partitions, str(found).encode())
    except OSError as error:
        log.warning(
            "the number of data slices is not kept: %s", error, extra=about(LogEvent.STORAGE_FAILED)
        )
    return found


def _indices(folder: State) -> list[int]:
    """Of the peers on the roster that the registry told last; gaps are slices of peers that left."""
    try:
        return [entry.index for entry in pb.Roster.FromString(folder.roster.read_bytes()).entries]
    except Exception as error:  # protobuf raises its own for a damaged file
        log.warning(
            "no roster in %s: %s", folder.roster, error, extra=about(LogEvent.STORAGE_FAILED)
        )
        return []
