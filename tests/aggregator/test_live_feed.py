"""What the aggregator's live page is made of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from smpc.v1 import local_pb2 as pb
from smpc.v1 import peer_pb2
from smpcfl.aggregator import live_feed
from smpcfl.aggregator.live_feed import LiveFeed
from smpcfl.net import rpc
from smpcfl.net.certificates import Role
from smpcfl.net.dial import PeerChannels
from smpcfl.net.directory import Directory
from smpcfl.reports.live_server import LiveServer
from smpcfl.reports.snapshot import MOST_FLOWS, MOST_PEERS
from support.deployed import LONG_S, NOWHERE, Deployed
from support.fake_runs import a_record

RECORD = a_record(run=7, round=1)


class Roster:
    """As much of a Directory as the feed looks at."""

    def __init__(self, **found: bool) -> None:
        self.roster = found


def feed_of(*records: Any, **found: bool) -> LiveFeed:
    return LiveFeed("seeded", list(records), cast(Directory, Roster(**found)))


def begin(feed: LiveFeed, phase: str, *survivors: str) -> None:
    feed.begins(pb.RoundPhase(run=7, round=2, phase=phase, cohort=["a", "b"], survivors=survivors))


def test_a_round_walks_through_its_phases() -> None:
    feed = feed_of(a=True, b=False)
    feed.starts(7, 5)
    begin(feed, "train")
    assert (feed.snapshot().phase, feed.snapshot().rounds) == ("train", 5)
    feed.replied(1)
    found = feed.snapshot()
    assert (found.phase, found.replies, found.cohort) == ("upload", 1, ("a", "b"))
    begin(feed, "unmask", "a")
    assert (feed.snapshot().phase, feed.snapshot().survivors) == ("unmask", ("a",))
    feed.ended(replace(RECORD, round=2))
    found = feed.snapshot()
    assert (found.phase, found.round, found.records[-1].round) == ("", 2, 2)
    begin(feed, "train")
    assert feed.snapshot().replies == 0


def test_a_late_reply_does_not_take_a_phase_back() -> None:
    feed = feed_of()
    begin(feed, "unmask")
    feed.replied(2)
    assert feed.snapshot().phase == "unmask"


def test_it_begins_with_the_rounds_that_are_kept() -> None:
    found = feed_of(RECORD).snapshot()
    assert (found.run, found.records) == (7, (RECORD,))


def test_peers_are_shown_with_how_they_were_found() -> None:
    found = feed_of(b=False, a=True).snapshot()
    assert [(peer.name, peer.via) for peer in found.peers] == [
        ("a", "mDNS and registry"),
        ("b", "registry"),
    ]


def test_what_a_peer_says_is_of_itself_alone_and_of_known_peers() -> None:
    feed = feed_of(a=True, b=True)
    said = peer_pb2.TrafficReply(sent={"b": 5, "a": 9, "made-up": 9}, flower_out=3)
    feed._traffic = {"a": live_feed._Counted.of(said, {"b"})}
    found = feed.snapshot()
    assert found.flows == (("a", "b", 5),)
    assert [peer.flower_out for peer in found.peers] == [3, 0]


def test_only_the_run_in_hand_is_shown_each_round_once() -> None:
    old, other = replace(RECORD, run=6), replace(RECORD, mode="normal")
    feed = feed_of(old, other, RECORD)
    assert feed.snapshot().records == (RECORD,)
    feed.ended(RECORD)  # sent again after a restart
    assert feed.snapshot().records == (RECORD,)
    feed.starts(7, 5)  # goes on
    assert feed.snapshot().records == (RECORD,)
    feed.starts(8, 5)
    assert feed.snapshot().records == ()
    second = replace(RECORD, run=9)
    feed.ended(second)
    assert feed.snapshot().records == (second,)


def test_what_is_shown_is_bounded() -> None:
    names = [f"peer-{number}" for number in range(1000)]
    feed = feed_of(**dict.fromkeys(names, True))
    sent = tuple((name, 1) for name in names[:100])
    feed._traffic = {name: live_feed._Counted(sent) for name in names[:64]}
    found = feed.snapshot()
    assert (found.here, len(found.peers), len(found.flows)) == (1000, MOST_PEERS, MOST_FLOWS)


def test_the_log_is_one_line() -> None:
    feed = feed_of()
    feed.said("waiting for peers\nand more")
    assert feed.snapshot().said == "waiting for peers"


@pytest.fixture
async def net(tmp_path: Path) -> AsyncIterator[Deployed]:
    async with Deployed(tmp_path, 3) as net:
        yield net


@pytest.mark.sockets
async def test_a_peer_that_cannot_tell_what_it_counted_is_shown_without(
    net: Deployed, tmp_path: Path
) -> None:
    """An older one: it answers, and does not know the method."""
    own = net.enrolled.identity(Role.PEER, net.cohort[0])
    server = rpc.new_server()
    port = rpc.bind(server, "127.0.0.1", 0, own.server_credentials(), "port")
    await server.start()
    directory = Directory(net.aggregator, NOWHERE, tmp_path / "roster.bin")
    directory.by_registry = {**net.addresses(), net.cohort[0]: f"127.0.0.1:{port}"}
    directory.roster = dict.fromkeys(net.cohort, True)
    feed = LiveFeed("seeded", [], directory)
    channels = PeerChannels(net.aggregator, directory)
    try:
        await feed._ask(channels)
        assert feed._traffic.keys() == set(net.cohort[1:])
        assert {peer.name for peer in feed.snapshot().peers} == set(net.cohort)
    finally:
        await channels.close_all()
        await directory.close()
        await server.stop(0)


@pytest.mark.sockets
async def test_peers_are_asked_while_somebody_looks_and_only_then(
    net: Deployed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = Directory(net.aggregator, NOWHERE, tmp_path / "roster.bin")
    directory.by_registry = net.addresses()
    directory.roster = dict.fromkeys(net.cohort, True)
    monkeypatch.setattr(live_feed, "_LOOK_S", 0.0)
    feed = LiveFeed("seeded", [], directory)
    server = LiveServer(feed.runs.source(), "127.0.0.1", 0)
    asked: list[bool] = []

    def watched() -> bool:
        asked.append(True)
        return len(asked) > 1

    server.watched = watched  # type: ignore[method-assign]
    stop = asyncio.Event()
    serving = asyncio.create_task(feed.serve(net.aggregator, server, stop))
    try:
        async with asyncio.timeout(LONG_S):
            while True:
                if len(feed._traffic) == len(net.cohort):
                    break
                assert len(asked) > 1 or not feed._traffic
                await asyncio.sleep(0)
    finally:
        stop.set()
        await serving
        await directory.close()
