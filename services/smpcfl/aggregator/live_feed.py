"""What the aggregator knows of its run, for the live page: its events, the roster, and peers' own counts."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Set
from dataclasses import dataclass

import grpc.aio

from smpc.v1 import local_pb2 as pb
from smpc.v1 import peer_pb2, peer_pb2_grpc

from ..base.waiting import wait_for
from ..net.certificates import Identity
from ..net.dial import NoAddress, PeerChannels
from ..net.directory import Directory
from ..reports.live_runs import LiveRuns
from ..reports.live_server import LiveServer
from ..reports.record import RoundRecord
from ..reports.snapshot import MOST_FLOWS, MOST_PEERS, LivePeer, Snapshot
from ..runs.run_events import record_from_proto

_LOOK_S = 1.0
_PATIENCE_S = 2.0
_ASKED = 64  # peers that are asked for their counts
_MOST_BYTES = 64 << 10  # of such a reply
_MOST_RECORDS = 500


@dataclass(frozen=True)
class _Counted:
    """What one peer counted, as far as it is of peers that are known."""

    sent: tuple[tuple[str, int], ...] = ()
    flower_out: int = 0
    flower_in: int = 0
    unmask_out: int = 0
    unmask_in: int = 0

    @classmethod
    def of(cls, reply: peer_pb2.TrafficReply, known: Set[str]) -> _Counted:
        """A peer may say that it sent to whomever it likes."""
        sent = sorted((peer, int(count)) for peer, count in reply.sent.items() if peer in known)
        return cls(
            tuple(sent), reply.flower_out, reply.flower_in, reply.unmask_out, reply.unmask_in
        )


class LiveFeed:
    """Takes what happens, and while anybody looks makes snapshots of it for `runs`."""

    def __init__(self, mode: str, records: list[RoundRecord], directory: Directory) -> None:
        self.runs = LiveRuns(
            "What the aggregator knows of this deployment; nothing here is secret."
        )
        self._mode = mode
        self._directory = directory
        self._run = records[-1].run if records else 0
        # Of the run in hand, in this mode: others would be drawn as its first rounds.
        mine = [record for record in records if (record.run, record.mode) == (self._run, mode)]
        self._records = deque(mine, _MOST_RECORDS)
        self._rounds: int | None = None
        self._phase = pb.RoundPhase()
        self._since = 0.0
        self._replies = 0
        self._said = ""
        self._traffic: dict[str, _Counted] = {}

    # -- what happens -----------------------------------------------------------------------------

    def hear(self, event: pb.RunEvent) -> None:
        """ValueError for a record that none is."""
        match event.WhichOneof("event"):
            case "start":
                self.starts(event.start.run, event.start.rounds)
            case "phase":
                self.begins(event.phase)
            case "replies":
                self.replied(event.replies.count)
            case "record":
                self.ended(record_from_proto(event.record))
            case "line":
                self.said(event.line.text)

    def starts(self, run: int, rounds: int) -> None:
        if run != self._run:
            self._records.clear()
        self._run, self._rounds = run, rounds
        self._phase = pb.RoundPhase()

    def begins(self, phase: pb.RoundPhase) -> None:
        if phase.phase == "train":
            self._replies = 0
        self._phase, self._since, self._said = phase, time.time(), ""

    def replied(self, count: int) -> None:
        """So many peers have, in this round."""
        self._replies = count
        if self._phase.phase == "train":
            begun = pb.RoundPhase()
            begun.CopyFrom(self._phase)
            begun.phase = "upload"
            self._phase, self._since = begun, time.time()

    def ended(self, record: RoundRecord) -> None:
        last = self._records[-1] if self._records else None
        if last is not None and last.run == record.run and record.round <= last.round:
            return  # it was sent again after a restart
        if record.run != self._run:
            self._records.clear()
        self._run = record.run
        self._records.append(record)
        self._phase = pb.RoundPhase(round=record.round, cohort=self._phase.cohort)
        self._since = time.time()

    def said(self, text: str) -> None:
        self._said = text.partition("\n")[0][:200]

    # -- what is shown ----------------------------------------------------------------------------

    async def serve(self, own: Identity, server: LiveServer, stop: asyncio.Event) -> None:
        """Until `stop`. Peers are asked only while somebody looks."""
        channels = PeerChannels(own, self._directory, _MOST_BYTES)
        self.runs.put(self._mode, self.snapshot())
        try:
            while not stop.is_set():
                if server.watched():
                    await self._ask(channels)
                    self.runs.put(self._mode, self.snapshot())
                await wait_for(stop, _LOOK_S)
        finally:
            await asyncio.to_thread(server.close)
            await channels.close_all()

    async def _ask(self, channels: PeerChannels) -> None:
        peers = sorted(self._directory.roster)[:_ASKED]
        found = await asyncio.gather(*(_traffic(channels, peer) for peer in peers))
        known = self._directory.roster.keys()
        self._traffic |= {
            peer: _Counted.of(one, known - {peer})
            for peer, one in zip(peers, found, strict=True)
            if one is not None
        }
        gone = self._traffic.keys() - self._directory.roster.keys() - set(self._phase.cohort)
        for peer in gone:
            del self._traffic[peer]

    def snapshot(self) -> Snapshot:
        roster, counted = self._directory.roster, self._traffic
        names = sorted({*roster, *counted})
        nothing = _Counted()
        peers = [
            LivePeer(
                name=name,
                via="mDNS and registry" if roster.get(name) else "registry",
                flower_out=(count := counted.get(name, nothing)).flower_out,
                flower_in=count.flower_in,
                unmask_out=count.unmask_out,
                unmask_in=count.unmask_in,
            )
            for name in names[:MOST_PEERS]
        ]
        flows = [(name, *flow) for name in sorted(counted) for flow in counted[name].sent]
        return Snapshot(
            mode=self._mode,
            run=self._run,
            rounds=self._rounds,
            round=self._phase.round,
            phase=self._phase.phase,
            since=self._since,
            replies=self._replies,
            cohort=tuple(self._phase.cohort),
            survivors=tuple(self._phase.survivors),
            here=len(names),
            peers=tuple(peers),
            flows=tuple(flows[:MOST_FLOWS]),
            records=tuple(self._records),
            said=self._said,
        )


async def _traffic(channels: PeerChannels, peer: str) -> peer_pb2.TrafficReply | None:
    try:
        stub = peer_pb2_grpc.PeerStub(channels.to(peer))
    except NoAddress:
        return None
    try:
        return await stub.Traffic(peer_pb2.Empty(), timeout=_PATIENCE_S)
    except grpc.aio.AioRpcError:
        return None  # it is away, or of an older version
