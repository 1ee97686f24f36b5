"""Whose agents answer: asked over gRPC and TLS, at the addresses of the roster that was kept."""

from __future__ import annotations

from pathlib import Path

from smpc.v1 import registry_pb2 as pb
from smpcfl.base.state import State
from smpcfl.flower.server import probe
from smpcfl.net import certificates
from support.loopback import HOST, Loopback

NO_REGISTRY = f"{HOST}:1"


def keep_roster(state: Path, loopback: Loopback, revoked: str = "", **addresses: str) -> None:
    """Addresses of peers are where they are, but for those given."""
    entries = [
        pb.Entry(
            peer=peer,
            address=addresses.get(peer, f"{HOST}:{loopback.ports[peer]}"),
            certificate=certificates.der(loopback.identities[peer].certificate),
        )
        for peer in loopback.peers
    ]
    roster = pb.Roster(version=1, entries=entries, revoked=[revoked] if revoked else [])
    State(state).roster.write_bytes(roster.SerializeToString())


async def test_whoever_is_there_tells_its_start(tmp_path: Path) -> None:
    async with Loopback(tmp_path, 5) as loopback:
        there, elsewhere, nowhere, revoked, unasked = loopback.peers
        other = f"{HOST}:{loopback.ports[there]}"
        addresses = {elsewhere: other, nowhere: NO_REGISTRY}
        keep_roster(tmp_path, loopback, revoked, **addresses)
        asked = [there, elsewhere, nowhere, revoked, "peer-unknown"]
        found = await probe.starts(loopback.aggregator, NO_REGISTRY, tmp_path, asked)
        # At the address of another it is not the one that was asked for: TLS sees to that.
        assert found == {there: loopback.agents[there].start}
        found = await probe.starts(loopback.aggregator, NO_REGISTRY, tmp_path, [unasked, there])
        assert found.keys() == {unasked, there}
        assert found[unasked] != found[there]


async def test_without_a_roster_nobody_is_found(tmp_path: Path) -> None:
    async with Loopback(tmp_path, 3) as loopback:
        asked = loopback.peers
        assert await probe.starts(loopback.aggregator, NO_REGISTRY, tmp_path, asked) == {}
