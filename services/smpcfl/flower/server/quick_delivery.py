"""Has Flower's simulation engine look only at nodes that have a message.

The engine asks for each node's messages, many times a second, and goes through all messages each time: with a
thousand nodes, and a message to each, that is seconds of work that holds up everything else in its process.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flwr.app import Message


def deliver_quickly(state: Any, nodes: Iterable[int]) -> None:
    """Changes this state of the engine (Flower's LinkState in memory). `nodes`: those that it has by now."""
    store, get = state.store_message_ins, state.get_message_ins
    waiting = set(nodes)  # for what was stored before

    def store_message_ins(message: Message) -> str | None:
        key: str | None = store(message)
        waiting.add(message.metadata.dst_node_id)
        return key

    def get_message_ins(node_id: int, limit: int | None, **more: Any) -> list[Message]:
        if node_id not in waiting:
            return []
        # Before the look: what is stored after it is looked for the next time.
        waiting.discard(node_id)
        found: list[Message] = get(node_id=node_id, limit=limit, **more)
        if found:
            waiting.add(node_id)  # there may be more
        return found

    state.store_message_ins, state.get_message_ins = store_message_ins, get_message_ins
