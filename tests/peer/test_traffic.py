"""What a peer counts of its messages, and who may ask for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from smpc.v1 import peer_pb2 as pb
from smpcfl.base.metrics import Metrics
from smpcfl.peer import traffic
from smpcfl.peer.traffic import Traffic
from smpcfl.protocol.errors import Reason
from support.deployed import LONG_S, Deployed, outcome

PEERS = 4


@pytest.fixture
async def net(tmp_path: Path) -> AsyncIterator[Deployed]:
    async with Deployed(tmp_path, PEERS) as net:
        yield net


@pytest.mark.sockets
async def test_of_a_round_each_pair_is_counted_as_the_metric_counts_it(net: Deployed) -> None:
    await net.begin()
    await net.upload()
    await net.finish()
    for number, name in enumerate(net.cohort):
        found = await net.stub(net.aggregator, number).Traffic(pb.Empty(), timeout=LONG_S)
        assert found.sent.keys() == set(net.cohort) - {name}
        labels = {"mode": "seeded", "direction": "out", "channel": "p2p"}
        metric = net.peer(number).metrics.registry.get_sample_value("smpcfl_bytes_total", labels)
        assert sum(found.sent.values()) == metric
        assert (found.unmask_in > 0, found.unmask_out > 0) == (True, True)


@pytest.mark.sockets
async def test_nobody_but_the_aggregator_may_ask(net: Deployed) -> None:
    answer = await outcome(net.stub(net.peer(1).own, 0).Traffic(pb.Empty(), timeout=LONG_S))
    assert answer is Reason.ROLE


def test_counters_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "_MOST", 2)
    counted = Traffic(Metrics("seeded", CollectorRegistry()))
    for name in ("a", "b", "c", "a"):
        counted.count(10, "out", "p2p", name)
    assert dict(counted.to_proto().sent) == {"a": 20, "b": 10}
