"""What the aggregator knows of its run, for the live page: its events, the roster, and peers' own counts."""

from __future__ import annotations

import asyncio
import time
from collections import deque

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
from ..reports.snapshot import LivePeer, Snapshot
from ..runs.run_events import record_from_proto

_LOOK_S = 1.0
_PATIENCE_S = 2.0
_MOST_PEERS = 64  # that are asked for their counts
_MOST_RECORDS = 500


class LiveFeed:
    """Takes what happens, and while anybody looks makes snapshots of it for `runs`."""

    def __init__(self, mode: str, records: list[RoundRecord], directory: Directory) -> None:
        self.runs = LiveRuns(
            "What the aggregator knows of this deployment; nothing here is secret."
        )
        self._mode = mode
        self._directory = directory
        self._records = deque(records, _MOST_RECORDS)
        self._run = records[-1].run if records else 0
        self._rounds: int | None = None
        self._phase = pb.RoundPhase()
        self._since = 0.0
        self._replies = 0
        self._said = ""
        self._traffic: dict[str, peer_pb2.TrafficReply] = {}

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
        self._run = record.run
        self._records.append(record)
        self._phase = pb.RoundPhase(round=record.round, cohort=self._phase.cohort)
        self._since = time.time()

    def said(self, text: str) -> None:
        self._said = text.partition("\n")[0][:200]

    # -- what is shown ----------------------------------------------------------------------------

    async def serve(self, own: Identity, server: LiveServer, stop: asyncio.Event) -> None:
        """Until `stop`. Peers are asked only while somebody looks."""
        channels = PeerChannels(own, self._directory)
        try:
            while not stop.is_set():
                if server.watched():
                    await self._ask(channels)
                self.runs.put(self._mode, self.snapshot())
                await wait_for(stop, _LOOK_S)
        finally:
            server.close()
            await channels.close_all()

    async def _ask(self, channels: PeerChannels) -> None:
        peers = sorted(self._directory.roster)[:_MOST_PEERS]
        found = await asyncio.gather(*(_traffic(channels, peer) for peer in peers))
        self._traffic |= {
            peer: one for peer, one in zip(peers, found, strict=True) if one is not None
        }
        gone = self._traffic.keys() - self._directory.roster.keys() - set(self._phase.cohort)
        for peer in gone:
            del self._traffic[peer]

    def snapshot(self) -> Snapshot:
        roster, counted = self._directory.roster, self._traffic
        names = sorted({*roster, *counted})
        peers = []
        for name in names:
            count = counted.get(name, peer_pb2.TrafficReply())
            peers.append(
                LivePeer(
                    name=name,
                    via="mDNS and registry" if roster.get(name) else "registry",
                    flower_out=count.flower_out,
                    flower_in=count.flower_in,
                    unmask_out=count.unmask_out,
                    unmask_in=count.unmask_in,
                )
            )
        known = set(names)  # a peer may say that it sent to whomever it likes
        flows = [
            (name, other, int(sent))
            for name, count in sorted(counted.items())
            for other, sent in sorted(count.sent.items())
            if other in known and other != name
        ]
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
            peers=tuple(peers),
            flows=tuple(flows),
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
