"""Flower's nodes and our peers: which node is which peer, and messages out and back."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from .records import RECORD, config_of

log = logging.getLogger("smpcfl.flower")
_POLL_S = 0.2
_IDENTIFY_S = 60.0
_IDENTIFY_LATER_S = 15.0  # once there are others to go on with
_SILENT_S = 60.0

# Of the peers given, those whose agent answers, each with the start that it is in.
Probe = Callable[[Iterable[str]], Mapping[str, bytes]]


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


@dataclass(frozen=True)
class _Known:
    peer: str
    start: bytes  # of the agent: a node does not outlive it


class PeerNodes:
    """Which node is which peer, and which of them are there for the next round.

    A new node is asked once; it answers with its agent's peer id. Flower takes up to a minute to see that a
    node is gone. So whoever did not reply in a round is left out of the next ones until its agent, asked
    directly by `probe`, answers that it is still the same, or for that minute.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[int, _Known] = {}
        self._asked: dict[str, tuple[int, float]] = {}
        self._silent: dict[int, float] = {}
        self._gone: set[int] = set()

    def present(self, grid: Grid, probe: Probe) -> dict[int, str]:
        """Peer ids by node id. Waits for the answers of new nodes, but not longer than they may take."""
        online = set(grid.get_node_ids())
        self._gone &= online
        self._identify(grid, online - self._known.keys() - self._gone)
        self._look_for_silent(online, probe)
        left_out = self._gone | self._silent.keys()
        return {
            node: known.peer
            for node, known in self._known.items()
            if node in online and node not in left_out
        }

    def missed(self, nodes: Iterable[int]) -> None:
        """These were sent a message in the round that ended, and did not reply."""
        self._silent |= dict.fromkeys(nodes, self._clock())

    def _identify(self, grid: Grid, new: set[int]) -> None:
        self._asked = {key: item for key, item in self._asked.items() if item[0] in new}
        unasked = new - {node for node, _ in self._asked.values()}
        if unasked:
            log.info("asking %d new nodes who they are", len(unasked))
            ask = RecordDict({RECORD: ConfigRecord({"identify": True})})
            messages = [
                Message(content=ask, message_type=MessageType.TRAIN, dst_node_id=node)
                for node in sorted(unasked)
            ]
            # One that does not answer must not hold up the others for long: it joins when it does.
            latest = self._clock() + (_IDENTIFY_LATER_S if self._known else _IDENTIFY_S)
            for key, message in zip(grid.push_messages(messages), messages, strict=True):
                self._asked[key] = (message.metadata.dst_node_id, latest)
        while self._asked:
            for reply in grid.pull_messages(list(self._asked)):
                if (asked := self._asked.pop(reply.metadata.reply_to_message_id, None)) is not None:
                    self._take(asked[0], reply)
            if all(latest <= self._clock() for _, latest in self._asked.values()):
                break
            time.sleep(_POLL_S)

    def _take(self, node: int, reply: Message) -> None:
        answer = None if reply.has_error() else config_of(reply.content)
        if answer is None:
            log.warning("node %d is no peer: %s", node, reply.error.reason)
            return
        known = _Known(str(answer["peer"]), bytes(answer["start"]))  # type: ignore[arg-type]
        # A peer that started again has a new node.
        for other in [n for n, item in self._known.items() if item.peer == known.peer]:
            self._forget(other)
        self._known[node] = known

    def _look_for_silent(self, online: set[int], probe: Probe) -> None:
        now = self._clock()
        self._silent = {
            node: since
            for node, since in self._silent.items()
            if node in self._known and now - since < _SILENT_S
        }
        asked = {node: self._known[node] for node in self._silent if node in online}
        if not asked:
            return
        found = probe([known.peer for known in asked.values()])
        for node, known in asked.items():
            if known.peer not in found:
                log.info("%s does not answer and is left out", known.peer)
            elif found[known.peer] == known.start:
                del self._silent[node]
            else:
                log.info("%s has started again", known.peer)
                self._forget(node)

    def _forget(self, node: int) -> None:
        del self._known[node]
        self._silent.pop(node, None)
        self._gone.add(node)
