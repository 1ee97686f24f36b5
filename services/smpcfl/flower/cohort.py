"""Flower's nodes and our peers: which node is which peer, and messages out and back."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from .records import RECORD, config_of

log = logging.getLogger("smpcfl.flower")
_POLL_S = 0.2
_IDENTIFY_S = 60.0


def exchange(
    grid: Grid, messages: Iterable[Message], timeout: float, grace: float | None = None
) -> dict[int, Message]:
    """Replies by node id; whoever has not replied in `timeout` seconds is missing.

    With `grace`, waiting ends so many seconds after two thirds have replied: the last ones are taken
    for lost. Flower's own loop polls every three seconds, which would be half of a short round.
    """
    sent = list(messages)
    pending = dict(zip(grid.push_messages(sent), sent, strict=True))
    wanted = len(pending)
    replies: dict[int, Message] = {}
    start = time.monotonic()
    latest = start + timeout
    while pending and time.monotonic() < latest:
        for reply in grid.pull_messages(list(pending)):
            # By message: Flower's own error replies do not name the node.
            asked = pending.pop(reply.metadata.reply_to_message_id, None)
            if asked is not None:
                replies[asked.metadata.dst_node_id] = reply
        if grace is not None and 3 * len(replies) >= 2 * wanted:
            latest = min(latest, time.monotonic() + grace)
            grace = None
        if pending:
            time.sleep(_POLL_S)
    return replies


class PeerNodes:
    """Peer ids by node id. Each new node is asked once; it answers with its agent's peer id."""

    def __init__(self) -> None:
        self._peers: dict[int, str] = {}

    def identify(self, grid: Grid, nodes: Iterable[int]) -> dict[int, str]:
        """Of `nodes`, those that are peers, by node id."""
        nodes = list(nodes)
        unknown = [node for node in nodes if node not in self._peers]
        if unknown:
            log.info("asking %d new nodes who they are", len(unknown))
            ask = RecordDict({RECORD: ConfigRecord({"identify": True})})
            messages = [
                Message(content=ask, message_type=MessageType.TRAIN, dst_node_id=node)
                for node in unknown
            ]
            for node, reply in exchange(grid, messages, _IDENTIFY_S).items():
                answer = None if reply.has_error() else config_of(reply.content)
                if answer is None:
                    log.warning("node %d is no peer: %s", node, reply.error.reason)
                    continue
                self._replace(str(answer["peer"]), node)
        return {node: self._peers[node] for node in nodes if node in self._peers}

    def _replace(self, peer: str, node: int) -> None:
        """A peer that started again has a new node id."""
        self._peers = {n: p for n, p in self._peers.items() if p != peer}
        self._peers[node] = peer
