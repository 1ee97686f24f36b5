"""What leaves a peer's SuperNode, with Flower's own code for sending, up to the wire."""

from __future__ import annotations

import hashlib
import logging
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, Error, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.common.serde import message_from_proto
from flwr.proto import fleet_pb2, heartbeat_pb2, message_pb2
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode import start_client_internal as supernode
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.fleet_http_connection import http_request_response
from flwr.supernode.nodestate import NodeStateFactory
from flwr.supernode.nodestate.in_memory_nodestate import CLIENT_APP_CRASHED_ERROR

from smpcfl.daemons import supernode_replies
from smpcfl.flower.client import mod
from smpcfl.protocol.errors import LocalError

LIFE_S = 3600.0


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_push_messages", "FAB_VERIFICATION_ERROR"):
        monkeypatch.setattr(supernode, name, getattr(supernode, name))
    monkeypatch.setattr(FleetHttpClient, "PushMessages", FleetHttpClient.PushMessages)
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


class Wire:
    """The SuperLink's end: what comes, answered as it would be."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pushed: list[fleet_pb2.PushMessagesRequest] = []
        self.objects: dict[str, bytes] = {}
        monkeypatch.setattr(FleetHttpClient, "_unary_unary", self._answer)

    def _answer(self, *, request: Any, response_type: Any, **others: Any) -> Any:
        if isinstance(request, heartbeat_pb2.SendNodeHeartbeatRequest):
            return response_type(success=True)
        if isinstance(request, fleet_pb2.ActivateNodeRequest):
            return response_type(node_id=1)
        if isinstance(request, fleet_pb2.PushMessagesRequest):
            self.pushed.append(request)
            names = {
                tree.object_id for tree in iterate_object_tree(request.message_object_trees[0])
            }
            return response_type(objects_to_push=names, session_id="s")
        if isinstance(request, message_pb2.PushObjectRequest):
            assert hashlib.sha256(request.object_content).hexdigest() == request.object_id
            self.objects[request.object_id] = request.object_content
            return response_type(stored=True)
        return response_type()

    def received(self) -> tuple[Message, Message]:
        """The reply as the SuperLink has it, and as the ServerApp makes it of the objects."""
        (request,) = self.pushed
        tree = request.message_object_trees[0]
        message = message_from_proto(request.messages_list[0])
        assert message.metadata.message_id == tree.object_id
        whole = inflate_object_from_contents(tree.object_id, self.objects)
        assert isinstance(whole, Message)
        return message, whole


def _asked() -> Message:
    message = Message(RecordDict(), dst_node_id=1, message_type="train", ttl=LIFE_S)
    message.metadata.__dict__["_message_id"] = message.object_id
    return message


def send(reply: Message) -> None:
    """As a SuperNode sends the reply of a ClientApp that ran for seven seconds."""
    state = NodeStateFactory(ObjectStoreFactory()).state()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state, "get_message_processing_duration", lambda message_id: 7.0)
        reply.metadata.__dict__["_message_id"] = reply.object_id
        state.store_message(reply)
        state.object_store.preregister(reply.metadata.run_id, get_object_tree(reply))
        for name, item in get_all_nested_objects(reply).items():
            state.object_store.put(name, item.deflate())
        with http_request_response("127.0.0.1:1", insecure=True) as connection:
            _, _, push, _, _, _, push_object, _ = connection
            supernode._push_messages(
                state=state, object_store=state.object_store, send=push, push_object=push_object
            )
    assert state.object_store.get(reply.metadata.message_id) is None


def test_flower_itself_tells_how_long_the_app_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    wire, asked = Wire(monkeypatch), _asked()
    send(Message(RecordDict(), reply_to=asked))
    assert list(wire.pushed[0].clientapp_runtime_list) == [7.0]


def test_a_reply_arrives_whole_and_tells_neither_how_long_the_app_ran_nor_when_it_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    supernode_replies.install()
    wire, asked = Wire(monkeypatch), _asked()
    monkeypatch.setattr(supernode_replies.time, "time", lambda: asked.metadata.created_at + 60)
    vector = np.arange(5, dtype=np.uint8)
    reply = Message(RecordDict({"v": ArrayRecord([vector])}), reply_to=asked)
    reply.metadata.ttl += 1e-6  # the rounding errors of when it was made
    send(reply)
    assert not wire.pushed[0].clientapp_runtime_list
    for message in wire.received():
        metadata = message.metadata
        assert metadata.created_at == asked.metadata.created_at + 60
        assert metadata.ttl == LIFE_S - 60
        assert metadata.reply_to_message_id == asked.metadata.message_id
    (record,) = message.content.array_records.values()
    assert np.array_equal(record.to_numpy_ndarrays()[0], vector)


@pytest.mark.parametrize(
    "error",
    [
        Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, "<class 'ValueError'>:<'17 rows'>"),
        Error(ErrorCode.LOAD_CLIENT_APP_EXCEPTION, "it could not be loaded"),
        Error(ErrorCode.INVALID_FAB, "17 rows"),
        Error(99, "17 rows"),
        CLIENT_APP_CRASHED_ERROR,
    ],
)
def test_an_app_that_fails_tells_nothing_of_how(
    error: Error, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    supernode_replies.install()
    wire, asked = Wire(monkeypatch), _asked()
    with caplog.at_level(logging.ERROR, "smpcfl.outgoing"):
        send(Message(error, reply_to=asked))
    for message in wire.received():
        assert message.error == supernode_replies.FAILED
    assert not wire.pushed[0].clientapp_runtime_list
    assert str(error.reason) in caplog.text


def test_a_refusal_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    assert supernode_replies.MODS_CODE == mod.ERROR_CODE
    supernode_replies.install()
    supernode.FAB_VERIFICATION_ERROR = Error(ErrorCode.INVALID_FAB, "this peer does not run it")
    for error in (supernode.FAB_VERIFICATION_ERROR, Error(mod.ERROR_CODE, "stale serial")):
        wire, asked = Wire(monkeypatch), _asked()
        send(Message(error, reply_to=asked))
        for message in wire.received():
            assert message.error == error


def test_a_flower_that_sends_replies_in_another_way_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for owner, name, other in (
        (supernode, "_push_messages", lambda state, send: None),
        (supernode_replies, "PushMessagesRequest", fleet_pb2.PullMessagesRequest),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, other)
            with pytest.raises(LocalError, match=r"sends replies in another way"):
                supernode_replies.install()
    monkeypatch.delattr(FleetHttpClient, "PushMessages")
    with pytest.raises(LocalError, match=r"sends replies in another way"):
        supernode_replies.install()
