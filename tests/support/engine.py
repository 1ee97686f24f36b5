"""Flower's simulation engine without Ray: ClientApps run one after another, in this process."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

from flwr.app import Context, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from smpcfl.flower.client.mod import secure_mod

App = Callable[[Message, Context], Message]
APP_HASH = "ab" * 32
_runs = itertools.count(1_000_000)


class InMemoryGrid(Grid):
    """`app` on the nodes 101, 102, ..., whose partitions are 0, 1, ...; each with `secure_mod` around it.

    The class is named as the engine's own grid, by which a ServerApp knows that it is simulated.
    """

    def __init__(self, app: App, count: int) -> None:
        self._app = app
        self.state = SimpleNamespace(store_message_ins=None, get_message_ins=None)
        self.nodes = [101 + index for index in range(count)]
        self.asked: list[Message] = []
        self._replies: dict[str, Message] = {}
        self._run = Run.create_empty(next(_runs))
        self._run.fab_hash = APP_HASH

    @property
    def run(self) -> Run:
        return self._run

    def get_node_ids(self) -> list[int]:
        return self.nodes

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        keys = []
        for message in messages:
            key = f"message-{len(self.asked)}"
            message.metadata.__dict__["_message_id"] = key
            self.asked.append(message)
            keys.append(key)
            node = message.metadata.dst_node_id
            config = {"partition-id": node - 101, "num-partitions": len(self.nodes)}
            context = Context(self._run.run_id, node, config, RecordDict(), {})
            self._replies[key] = secure_mod(message, context, self._app)
        return keys

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        return [self._replies.pop(key) for key in list(message_ids) if key in self._replies]

    def set_run(self, run: Run) -> None:
        raise NotImplementedError

    def create_message(self, *_: Any, **__: Any) -> Message:
        raise NotImplementedError

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        return self.pull_messages(self.push_messages(messages))
