"""Flower's nodes and our peers: which node is which peer, and who is there."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from cryptography import x509
from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from ...base.log_events import LogEvent, about
from ...protocol.errors import LocalError, Reason, RemoteError
from ..shared.records import RECORD, identity_of
from .replies import Replies, Reply

log = logging.getLogger("smpcfl.flower")
_POLL_S = 0.2
_IDENTIFY_S = 60.0
_IDENTIFY_LATER_S = 5.0  # once there are others to go on with
_AWAY_S = 60.0
_AGAIN_S = (5.0, 10.0, 20.0, 60.0)  # after a refusal: to be asked takes a peer a process

# Of the peers given, those whose agent answers, each with its instance.
Probe = Callable[[Iterable[str]], Mapping[str, bytes]]


@dataclass(frozen=True)
class _Known:
    peer: str
    instance: bytes  # of the agent: a node does not outlive it


@dataclass(frozen=True)
class _Refused:
    text: str
    times: int
    since: float

    @property
    def again(self) -> float:
        return self.since + _AGAIN_S[min(self.times, len(_AGAIN_S)) - 1]


def names_of(
    grid: Grid, nodes: Iterable[int], ca: x509.Certificate, seconds: float
) -> tuple[dict[int, str], list[float]]:
    """Which of these nodes is which peer, as far as they say so in time; and how long each took, in seconds.

    For a round in the clear, where nobody has to.
    """
    replies, asked = Replies(grid), set(nodes)
    found: dict[int, str] = {}
    trips: list[float] = []
    began = time.monotonic()
    try:
        replies.send(_question(node) for node in sorted(asked))
        while asked and (passed := time.monotonic() - began) < seconds:
            for node, reply in replies.take(min(seconds - passed, _POLL_S)):
                asked.discard(node)
                trips.append(time.monotonic() - began)
                with contextlib.suppress(RemoteError):
                    found[node] = identity_of(reply, node, ca)[0]
    finally:
        replies.close()
    return found, trips


def _question(node: int) -> Message:
    """Who it is."""
    ask = RecordDict({RECORD: ConfigRecord({"identify": True})})
    return Message(content=ask, message_type=MessageType.TRAIN, dst_node_id=node)


class PeerNodes:
    """Which node is which peer, and which of them are there for the next round.

    A new node is asked once; it answers with its agent's certificate, which has to be one of `ca`, and a
    signature. Flower takes up to a minute to see that a node is gone, so before each round all agents are
    asked directly, by `probe`, whether they are there. A peer that does not answer is left out until it
    does, or for that minute, if there is reason to think that it would: its agent has answered before, or it
    did not reply in a round. One that refuses is asked again later, and why is logged once.

    `least`: so many peers a round needs; 0 if that is not known.
    """

    def __init__(
        self,
        ca: x509.Certificate,
        clock: Callable[[], float] = time.monotonic,
        *,
        least: int = 0,
    ) -> None:
        self._ca = ca
        self._clock = clock
        self._least = least
        self._replies: Replies | None = None
        self._asked: dict[int, float] = {}  # when
        self._refused: dict[int, _Refused] = {}
        self._reported: dict[str, int] = {}  # how many refuse, by the reason, as last logged
        self._known: dict[int, _Known] = {}
        self._reached: set[int] = set()  # their agents have answered
        self._away: dict[int, float] = {}  # since when
        self._gone: set[int] = set()  # their agents have started again
        self._trips: list[float] = []

    def present(self, grid: Grid, probe: Probe) -> dict[int, str]:
        """Peer ids by node id. Waits for the answers of new nodes, but not longer than they may take.

        LocalError if there are as many as a round needs, and all of them refuse for one and the same reason.
        """
        self.ask(grid)
        assert self._replies is not None
        patience = _IDENTIFY_LATER_S if self._known else _IDENTIFY_S
        now = self._clock()
        while any(now < since + patience for since in self._asked.values()):
            for node, reply in self._replies.take(_POLL_S):
                if node in self._asked:
                    self._trips.append(self._clock() - self._asked[node])
                self._take([(node, reply)])
            now = self._clock()
        online = set(grid.get_node_ids())
        self._gone &= online
        self._report_refusals(online)
        self._look(online, probe)
        now = self._clock()
        away = {node for node, since in self._away.items() if now - since < _AWAY_S}
        return {
            node: known.peer
            for node, known in self._known.items()
            if node in online and node not in away
        }

    @property
    def trip_s(self) -> float | None:
        """What the question who it is took the fastest node, there and back; None before any answer.

        There is nothing to train in it: Flower takes that long for every message, or less, as all nodes start
        at once here, and from a cold disk.
        """
        return min(self._trips, default=None)

    def ask(self, grid: Grid) -> None:
        """Asks new nodes who they are, and takes the answers that have come."""
        if self._replies is None:
            self._replies = Replies(grid)
        new = set(grid.get_node_ids()) - self._known.keys() - self._gone
        self._asked = {node: since for node, since in self._asked.items() if node in new}
        now = self._clock()
        later = {node for node, refused in self._refused.items() if now < refused.again}
        if unasked := sorted(new - self._asked.keys() - later):
            if not self._refused.keys() >= set(unasked):
                log.info("asking %d new nodes who they are", len(unasked))
            self._replies.send(map(_question, unasked))
            self._asked |= dict.fromkeys(unasked, self._clock())
        self._take(self._replies.take(0.0))

    def lost(self, nodes: set[int], probe: Probe) -> bool:
        """Whether all of these have answered before, and none of them does now."""
        if not nodes <= self._reached:
            return False
        known = [self._known[node] for node in nodes]
        found = probe([item.peer for item in known])
        return all(found.get(item.peer) != item.instance for item in known)

    def missed(self, nodes: Iterable[int]) -> None:
        """These were sent a message in the round that ended, and did not reply."""
        for node in set(nodes) - self._reached:
            self._away[node] = self._clock()

    def _take(self, replies: Iterable[Reply]) -> None:
        for node, reply in replies:
            if self._asked.pop(node, None) is None:
                continue
            try:
                known = _Known(*identity_of(reply, node, self._ca))
            except RemoteError as error:
                before = self._refused.get(node)
                times = before.times + 1 if before else 1
                text = str(error).removeprefix(f"{Reason.MALFORMED}: ")
                self._refused[node] = _Refused(text, times, self._clock())
                continue
            self._refused.pop(node, None)
            # A peer that started again has a new node.
            for other in [n for n, item in self._known.items() if item.peer == known.peer]:
                self._forget(other)
            self._known[node] = known

    def _report_refusals(self, online: set[int]) -> None:
        self._refused = {node: item for node, item in self._refused.items() if node in online}
        found = Counter(item.text for item in self._refused.values())
        for text, count in found.items():
            if count > self._reported.get(text, 0):
                log.warning(
                    "%d of %d connected peers refuse: %s",
                    count,
                    len(online),
                    text,
                    extra=about(LogEvent.PEERS_REFUSE),
                )
                self._reported[text] = count
        if self._least and len(self._refused) >= max(self._least, len(online)) and len(found) == 1:
            raise LocalError(f"all {len(online)} peers refuse: {next(iter(found))}")

    def _look(self, online: set[int], probe: Probe) -> None:
        here = {node: known for node, known in self._known.items() if node in online}
        if not here:
            return
        found = dict(probe([known.peer for known in here.values()]))
        # A busy machine may be late once.
        doubtful = self._reached - self._away.keys()
        again = [here[node].peer for node in doubtful & here.keys() if here[node].peer not in found]
        if again:
            found |= probe(again)
        for node, known in here.items():
            if known.peer not in found:
                if node in self._reached and node not in self._away:
                    log.info(
                        "%s does not answer and is left out",
                        known.peer,
                        extra=about(LogEvent.PEER_AWAY, peer=known.peer),
                    )
                    self._away[node] = self._clock()
            elif found[known.peer] == known.instance:
                self._reached.add(node)
                self._away.pop(node, None)
            else:
                log.info(
                    "%s has started again",
                    known.peer,
                    extra=about(LogEvent.PEER_BACK, peer=known.peer),
                )
                self._forget(node)

    def _forget(self, node: int) -> None:
        del self._known[node]
        self._away.pop(node, None)
        self._reached.discard(node)
        self._gone.add(node)
