"""The draw over the network, under mutual TLS: what a peer and the aggregator are told, and go by."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from smpc.v1 import registry_pb2 as pb
from smpc.v1 import registry_pb2_grpc as pb_grpc
from smpcfl.base import files
from smpcfl.base.metrics import Metrics
from smpcfl.base.state import State
from smpcfl.net import rpc
from smpcfl.net.certificates import Role
from smpcfl.net.directory import Directory
from smpcfl.net.kept_draw import KeptDraw
from smpcfl.protocol.signing import AGGREGATOR
from smpcfl.registry.registry_service import RegistryService
from smpcfl.registry.roster import Roster
from support.enrolled import Deployment, draws_of
from support.network import peer_ids

PEERS = peer_ids(10)
LOOPBACK = "127.0.0.1"


@pytest.mark.sockets
async def test_a_peer_gets_its_group_and_the_aggregator_all(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path / "deployment")
    state = tmp_path / "registry"
    own = deployment.authority.own_identity([LOOPBACK])
    roster, draws = Roster(State(state).indices, 1), draws_of(deployment.authority, state, 5)
    server = rpc.new_server()
    service = RegistryService(
        own, deployment.authority, roster, draws, Metrics("seeded", CollectorRegistry())
    )
    pb_grpc.add_RegistryServicer_to_server(service, server)
    port = rpc.bind(server, LOOPBACK, 0, own.server_credentials(), "port")
    await server.start()
    for peer in PEERS:
        der = deployment.certificate(Role.PEER, peer)
        roster.register(peer, f"{LOOPBACK}:1", f"{LOOPBACK}:2", der, time.monotonic())
    callers = {
        name: deployment.identity(role, name)
        for role, name in ((Role.PEER, PEERS[3]), (Role.AGGREGATOR, AGGREGATOR))
    }
    directories = {
        name: Directory(identity, f"{LOOPBACK}:{port}", tmp_path / name / "roster")
        for name, identity in callers.items()
    }
    try:
        for directory in directories.values():
            await directory.lookup()
            assert directory.needs_draw
            assert (directory.draw, await directory.ask_draw()) == (0, pb.DrawReply())
        files.write_private(State(state).draw_wanted, b"")
        assert draws.keep(PEERS, deployment.authority.enrolled)
        kept = {}
        for name, directory in directories.items():
            await directory.lookup()
            assert directory.draw == draws.number
            kept[name] = KeptDraw(tmp_path / name / "draw", deployment.ca)
            kept[name].take(await directory.ask_draw())
    finally:
        for directory in directories.values():
            await directory.close()
        await server.stop(None)
    everyone = [peer for group in kept[AGGREGATOR].groups for peer in group.cohort]
    assert sorted(everyone) == list(PEERS)
    (mine,) = kept[PEERS[3]].groups
    assert PEERS[3] in mine.cohort
    assert mine in kept[AGGREGATOR].groups


def test_a_draw_of_ten_thousand_peers_fits_into_one_reply(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path / "deployment")
    draws = draws_of(deployment.authority, tmp_path / "registry")
    names = [f"{place:05}-{'x' * 36}" for place in range(10_000)]  # as long as ids may be
    files.write_private(State(tmp_path / "registry").draw_wanted, b"")
    assert draws.keep(names, lambda: dict.fromkeys(names, bytes(32)))
    assert len(draws.told_all().groups) == 156
    assert draws.told_all().ByteSize() < rpc.MOST_REPLY_BYTES / 4
