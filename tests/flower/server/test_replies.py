"""Messages to nodes and their replies: no node can hold up the others, or the deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, cast

import httpx
import pytest
from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from smpcfl.flower.server import replies
from smpcfl.flower.server.replies import ask_all


class Nodes:
    """A grid of nodes that answer, stay silent, or are killed while they send their answer."""

    def __init__(self, **what: str) -> None:
        self.what = what
        self.names = list(what)
        self.closed = threading.Event()
        self.locked = 0  # pulls that end with an error of the SuperLink's
        self._sent: dict[str, Message] = {}

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        keys = []
        for message in messages:
            key = self.names[message.metadata.dst_node_id]
            message.metadata.__dict__["_message_id"] = key
            self._sent[key] = message
            keys.append(key)
        return keys

    def pull_messages(self, keys: Iterable[str]) -> list[Message]:
        keys = list(keys)
        if any(self.what[key] == "killed" for key in keys):
            self.closed.wait(30)  # as Flower does, with whatever else was asked for
        if any(self.what[key] == "broken" for key in keys):
            raise ConnectionError("no SuperLink")
        if any(self.what[key] == "locked" for key in keys):
            self.locked -= 1
            if self.locked >= 0:
                request = httpx.Request("POST", "https://superlink")
                raise httpx.HTTPStatusError(
                    "locked", request=request, response=httpx.Response(500, request=request)
                )
        return [
            Message(RecordDict(), reply_to=self._sent[key])
            for key in keys
            if self.what[key] in ("answers", "locked")
        ]

    def exchange(self, timeout: float, grace: float | None = None, lost: Any = None) -> set[str]:
        content = RecordDict({"c": ConfigRecord()})
        messages = [
            Message(content=content, message_type=MessageType.TRAIN, dst_node_id=node)
            for node in range(len(self.names))
        ]
        grid = cast(Grid, cast(Any, self))
        used: dict[int, Message] = {}
        options = {} if lost is None else {"lost": lost}
        found = ask_all(grid, messages, timeout, used.__setitem__, grace, **options)
        assert found == used.keys()
        return {self.names[node] for node in found}


@pytest.fixture(autouse=True)
def in_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_task_id", "_run_id", "_node_id"):  # Flower's messages want to know
        monkeypatch.setattr(TaskIdentity, name, 1)


@pytest.fixture
def killed() -> Iterator[Nodes]:
    nodes = Nodes(a="answers", b="killed", c="answers", d="answers")
    yield nodes
    nodes.closed.set()


def test_all_replies_come_at_once() -> None:
    began = time.monotonic()
    assert Nodes(a="answers", b="answers", c="answers").exchange(60) == {"a", "b", "c"}
    assert time.monotonic() - began < 10


def test_a_node_killed_while_it_sends_loses_its_own_reply_only(killed: Nodes) -> None:
    began = time.monotonic()
    assert killed.exchange(60, grace=0.5) == {"a", "c", "d"}
    assert time.monotonic() - began < 10


def test_a_silent_node_is_waited_for_until_the_deadline() -> None:
    nodes = Nodes(a="answers", b="silent", c="silent", d="silent")
    assert nodes.exchange(0.5, grace=0.1) == {"a"}


def test_nobody_waits_for_a_node_that_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replies, "_LOOK_S", 0.05)
    asked: list[tuple[set[int], bool]] = []
    says = iter([True, False, True, True])

    def lost(missing: set[int], late: bool) -> bool:
        asked.append((missing, late))
        return late and next(says)

    nodes = Nodes(a="answers", b="answers", c="silent")
    began = time.monotonic()
    assert nodes.exchange(60, grace=60, lost=lost) == {"a", "b"}
    assert time.monotonic() - began < 10
    assert asked[-4:] == [({2}, True)] * 4, "it has to be lost twice in a row"


def test_what_the_superlink_refuses_is_raised() -> None:
    with pytest.raises(ConnectionError):
        Nodes(a="answers", b="broken").exchange(60)


def test_a_superlink_whose_database_is_locked_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replies, "_POLL_S", 0.01)
    nodes = Nodes(a="locked")
    nodes.locked = 9
    assert nodes.exchange(60) == {"a"}
    nodes.locked = 10
    with pytest.raises(httpx.HTTPStatusError):
        nodes.exchange(60)
