"""Of all nodes, about which the engine asks many times a second, it looks at those that have a message."""

from __future__ import annotations

import secrets
from typing import Any

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.common.constant import HEARTBEAT_INTERVAL_INF, NOOP_ACCOUNT_NAME, NOOP_FLWR_AID
from flwr.proto.task_pb2 import Task
from flwr.server.superlink.linkstate import LinkStateFactory
from flwr.server.superlink.linkstate.in_memory_linkstate import RunRecord
from flwr.supercore.constant import FLWR_IN_MEMORY_DB_NAME, NOOP_FEDERATION_ID
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.federation import NoOpFederationManager
from flwr.superlink.grid import InMemoryGrid

from smpcfl.flower.server.quick_delivery import deliver_quickly

NODES = 20


@pytest.fixture
def grid(monkeypatch: pytest.MonkeyPatch) -> InMemoryGrid:
    """As the engine makes it, with its nodes."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    factory = LinkStateFactory(
        FLWR_IN_MEMORY_DB_NAME, NoOpFederationManager(), ObjectStoreFactory()
    )
    state: Any = factory.state()
    run = Run.create_empty(1)
    run.primary_task_id, run.federation_id = 1, NOOP_FEDERATION_ID
    state.run_ids[1], state.task_store[1] = RunRecord(run=run), Task(task_id=1, run_id=1)
    for _ in range(NODES):
        key = secrets.token_bytes(32)
        node = state.create_node(NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, key, HEARTBEAT_INTERVAL_INF)
        state.acknowledge_node_heartbeat(node, HEARTBEAT_INTERVAL_INF)
    made = InMemoryGrid(factory)
    made.set_run(run)
    return made


def message(node: int) -> Message:
    return Message(RecordDict({"config": ConfigRecord({"a": 1})}), node, "train")


def delivered(grid: InMemoryGrid, nodes: list[int]) -> list[str]:
    """In one sweep of the engine, over all nodes."""
    found = [item for node in nodes for item in grid.state.get_message_ins(node_id=node, limit=1)]
    return [item.metadata.message_id for item in found]


def test_each_message_is_delivered_once_and_two_to_one_node_in_two_sweeps(
    grid: InMemoryGrid,
) -> None:
    deliver_quickly(grid.state, [])
    nodes = sorted(grid.get_node_ids())
    keys = grid.push_messages([message(nodes[3]), message(nodes[3]), message(nodes[7])])
    sweeps = [delivered(grid, nodes) for _ in range(4)]
    assert sorted(key for sweep in sweeps for key in sweep) == sorted(keys)
    assert [len(sweep) for sweep in sweeps] == [2, 1, 0, 0]
    (later,) = grid.push_messages([message(nodes[3])])
    assert delivered(grid, nodes) == [later]


def test_what_was_sent_before_is_delivered_too(grid: InMemoryGrid) -> None:
    nodes = sorted(grid.get_node_ids())
    keys = grid.push_messages([message(nodes[2])])
    deliver_quickly(grid.state, nodes)
    assert delivered(grid, nodes) == keys


def test_nodes_without_a_message_get_no_look(
    grid: InMemoryGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    look = grid.state.get_message_ins

    def counted(node_id: int, limit: int | None) -> list[Message]:
        looked.append(node_id)
        return look(node_id=node_id, limit=limit)

    monkeypatch.setattr(grid.state, "get_message_ins", counted)
    deliver_quickly(grid.state, [])
    nodes = sorted(grid.get_node_ids())
    grid.push_messages([message(nodes[5])])
    for _ in range(10):
        delivered(grid, nodes)
    assert looked == [nodes[5]] * 2, "once more, as there might be another one"


def test_a_message_that_comes_during_the_look_is_found_in_the_next_sweep(
    grid: InMemoryGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = sorted(grid.get_node_ids())
    look = grid.state.get_message_ins
    keys: list[str] = []

    def stored_meanwhile(node_id: int, limit: int | None) -> list[Message]:
        found = look(node_id=node_id, limit=limit)
        if not found and len(keys) == 1:
            keys.extend(grid.push_messages([message(node_id)]))
        return found

    monkeypatch.setattr(grid.state, "get_message_ins", stored_meanwhile)
    deliver_quickly(grid.state, [])
    keys.extend(grid.push_messages([message(nodes[0])]))
    assert [key for _ in range(4) for key in delivered(grid, nodes)] == keys
