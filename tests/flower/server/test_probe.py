"""Whose agents answer: asked over gRPC and TLS, at the addresses of the roster that was kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from smpc.v1 import local_pb2
from smpc.v1 import registry_pb2 as pb
from smpcfl.base.state import State
from smpcfl.flower.server import probe
from smpcfl.flower.server.peer_calls import PeerCalls
from smpcfl.net import certificates
from support.deployed import Deployed
from support.deployed_peer import NOWHERE

pytestmark = pytest.mark.sockets


def keep_roster(state: Path, net: Deployed, revoked: str = "", **addresses: str) -> None:
    """Addresses of peers are where they are, but for those given."""
    entries = [
        pb.Entry(
            peer=name,
            address=addresses.get(name, peer.address),
            certificate=certificates.der(peer.own.certificate),
        )
        for name, peer in net.peers.items()
    ]
    roster = pb.Roster(version=1, entries=entries, revoked=[revoked] if revoked else [])
    State(state).roster.write_bytes(roster.SerializeToString())


async def test_whoever_is_there_tells_its_instance(tmp_path: Path) -> None:
    async with Deployed(tmp_path, 5) as net:
        there, elsewhere, nowhere, revoked, unasked = net.cohort
        other = net.peers[there].address
        addresses = {elsewhere: other, nowhere: NOWHERE}
        keep_roster(tmp_path, net, revoked, **addresses)
        asked = [there, elsewhere, nowhere, revoked, "peer-unknown"]
        events: list[local_pb2.RunEvent] = []
        calls = PeerCalls(events.append)
        found = await probe.instances(net.aggregator, NOWHERE, tmp_path, asked, calls)
        # At the address of another it is not the one that was asked for: TLS sees to that.
        assert found == {there: net.peers[there].agent.instance}
        (event,) = events
        outcomes = sorted((call.method, call.outcome) for call in event.calls.calls)
        assert outcomes == [("Identify", "error")] * 2 + [("Identify", "ok")]
        assert event.calls.wire_in > 1000, "a certificate at least"
        assert event.calls.wire_out > 1000
        calls = PeerCalls(events.append)
        found = await probe.instances(net.aggregator, NOWHERE, tmp_path, [unasked, there], calls)
        assert found.keys() == {unasked, there}
        assert found[unasked] != found[there]


async def test_without_a_roster_nobody_is_found(tmp_path: Path) -> None:
    async with Deployed(tmp_path, 3) as net:
        asked, calls = net.cohort, PeerCalls(lambda event: pytest.fail("nobody was called"))
        assert await probe.instances(net.aggregator, NOWHERE, tmp_path, asked, calls) == {}
