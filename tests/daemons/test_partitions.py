"""`num-partitions`: the roster's number when a peer is first sent a model, and no other one later."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.cli.build import build_fab_from_disk
from flwr.supercore.constant import TaskType
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode import start_client_internal as supernode
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.nodestate import NodeStateFactory
from flwr.supernode.nodestate.in_memory_nodestate import InMemoryNodeState

from smpc.v1 import registry_pb2 as pb
from smpcfl.base.state import State
from smpcfl.daemons import partitions
from smpcfl.daemons import supernode as ours
from smpcfl.daemons.bundled import BUNDLED
from smpcfl.protocol.errors import LocalError


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path)


def registered(state: State, *indices: int) -> None:
    """These peers are on the roster that the registry told last."""
    roster = pb.Roster(entries=[pb.Entry(peer=f"peer-{i}", index=i) for i in indices])
    state.roster.write_bytes(roster.SerializeToString())


def test_it_counts_the_peers_that_are_there(state: State) -> None:
    registered(state, 0, 1, 2)
    assert partitions.number(state, 2) == 3


def test_a_slice_whose_peer_has_left_still_counts(state: State) -> None:
    registered(state, 0, 3)
    assert partitions.number(state, 0) == 4


def test_it_stays_as_it_was_when_peers_come_and_go(state: State) -> None:
    registered(state, 0, 1, 2)
    assert partitions.number(state, 1) == 3
    for others in ((0, 1, 2, 3, 4), (1,)):
        registered(state, *others)
        assert partitions.number(state, 1) == 3


def test_no_peer_has_a_slice_beyond_the_last(state: State) -> None:
    registered(state, 0, 1)
    assert partitions.number(state, 1) == 2
    assert partitions.number(state, 4) == 5, "it was given another slice"


@pytest.mark.parametrize("text", ["x", "", "9" * 30, "-1"])
def test_a_damaged_number_is_decided_anew(text: str, state: State) -> None:
    registered(state, 0, 1)
    state.partitions.write_text(text)
    assert partitions.number(state, 0) == 2
    assert state.partitions.read_text() == "2"


@pytest.mark.parametrize("content", [None, b"\xff\xff"])
def test_without_a_roster_it_is_alone(content: bytes | None, state: State) -> None:
    if content is not None:
        state.roster.write_bytes(content)
    assert partitions.number(state, 3) == 4
    assert partitions.number(state, "a") == 4


@pytest.fixture
def node(state: State, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """A SuperNode as `entry` makes it: what the app of a run finds once a message has come."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    patched = ("_verify_fab", "_pull_and_store_message", "_push_messages", "FAB_VERIFICATION_ERROR")
    for name in patched:
        monkeypatch.setattr(supernode, name, getattr(supernode, name))
    monkeypatch.setattr(FleetHttpClient, "PushMessages", FleetHttpClient.PushMessages)
    monkeypatch.setattr(InMemoryNodeState, "create_task", InMemoryNodeState.create_task)
    partitions.install(state)
    ours.install("bundled", state.run_apps)
    store = NodeStateFactory(ObjectStoreFactory()).state()
    assert isinstance(store, InMemoryNodeState)
    store.set_node_id(1)
    bundle = build_fab_from_disk(BUNDLED)
    fab = Fab(hashlib.sha256(bundle).hexdigest(), bundle, {})

    def receive(config: dict[str, Any], model: bool = True) -> dict[str, Any]:
        content = {"config": ConfigRecord({"identify": True})}
        arrays = {"arrays": ArrayRecord({"w": Array(np.zeros(2))})} if model else {}
        message = Message(RecordDict(content | arrays), dst_node_id=1, message_type="train")
        message.metadata.__dict__["_message_id"] = message.object_id
        objects = {name: item.deflate() for name, item in get_all_nested_objects(message).items()}
        told = Run.create_empty(message.metadata.run_id)
        told.fab_hash, told.series_id = fab.hash_str, 7
        told.fab_id, told.fab_version = "smpcfl/smpcfl-digits", "0.1.0"
        told.primary_task_type = TaskType.SERVER_APP
        supernode._pull_and_store_message(
            state=store,
            object_store=store.object_store,
            node_config=config,
            receive=lambda: (message, get_object_tree(message)),
            get_run=lambda run_id: told,
            get_fab=lambda fab_hash, run_id: fab,
            pull_object=lambda run_id, name: objects[name],
            confirm_message_received=lambda run_id, name: None,
            trusted_entities=None,
        )
        context = store.get_run_series_context(7)
        assert context is not None
        return dict(context.node_config)

    return receive


def test_an_app_finds_it_beside_the_index(state: State, node: Any) -> None:
    registered(state, 0, 1, 2)
    given = {"partition-id": 1, "data": "/data"}
    assert node(dict(given)) == given | {"num-partitions": 3}


def test_a_peer_that_is_asked_who_it_is_before_the_others_come_does_not_count_yet(
    state: State, node: Any
) -> None:
    registered(state, 0)
    config = {"partition-id": 0}
    assert "num-partitions" not in node(config, model=False)
    registered(state, 0, 1, 2, 3)
    assert node(config)["num-partitions"] == 4


def test_the_operators_number_comes_first(state: State, node: Any) -> None:
    registered(state, 0, 1, 2)
    given = {"partition-id": 1, "num-partitions": 40}
    assert node(dict(given)) == given
    assert not state.partitions.exists(), "nothing is decided that nobody asked for"


def test_a_flower_that_configures_nodes_in_another_way_is_an_error(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supernode, "_pull_and_store_message", lambda state, get_run: None)
    with pytest.raises(LocalError, match="configures nodes in another way"):
        partitions.install(state)
