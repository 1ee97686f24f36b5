"""How a peer hears of draws: when it asks the registry, and that it goes on where nothing comes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import grpc
import grpc.aio
import pytest
from prometheus_client import CollectorRegistry

from smpc.v1 import registry_pb2 as pb
from smpcfl.base import files
from smpcfl.base.metrics import Metrics
from smpcfl.base.state import State
from smpcfl.net import certificates
from smpcfl.net.certificates import Members, Role
from smpcfl.net.kept_draw import KeptDraw
from smpcfl.peer.peer_draws import PeerDraws
from smpcfl.protocol.errors import Reason
from smpcfl.protocol.signing import AGGREGATOR
from smpcfl.protocol.ticket import SignedTicket
from support.enrolled import Deployment, draws_of
from support.network import make_ticket, peer_ids

PEERS = peer_ids(10)
ME = PEERS[0]


class World:
    """The registry as the peer's directory reaches it."""

    def __init__(self, folder: Path) -> None:
        self.deployment = Deployment(folder / "deployment")
        own = self.deployment.identity(Role.PEER, ME)
        self.aggregator = self.deployment.identity(Role.AGGREGATOR, AGGREGATOR)
        self.members = Members(self.deployment.ca)
        for shown in (own, self.aggregator):
            self.members.add(certificates.der(shown.certificate))
        fingerprint = bytes.fromhex(certificates.fingerprint(own.key.public_key()))
        self.keys = dict.fromkeys(PEERS, fingerprint)
        self.registry = draws_of(self.deployment.authority, folder / "registry", 5)
        self.folder = folder
        self.metrics = Metrics("seeded", CollectorRegistry())
        self.asked = 0
        self.down = False
        self.draw = 0  # as the last roster said
        self.needs_draw = True
        self.kept = KeptDraw(State(folder).draw, self.deployment.ca)
        self.draws = PeerDraws(own, self.kept, cast(Any, self), self.metrics)

    def make_draw(self) -> None:
        files.write_private(State(self.folder / "registry").draw_wanted, b"")
        assert self.registry.keep(PEERS, lambda: self.keys)

    async def ask_draw(self) -> pb.DrawReply:
        self.asked += 1
        if self.down:
            raise grpc.aio.AioRpcError(
                grpc.StatusCode.UNAVAILABLE, cast(Any, ()), cast(Any, ()), "no"
            )
        return self.registry.told(ME)

    def ticket(self, draw: int, signer: Any = None) -> SignedTicket:
        ticket = make_ticket(5, draw=draw, group=1).ticket
        return SignedTicket(ticket, (signer or self.aggregator.signer)(ticket.signed_bytes))

    def rejected(self, reason: Reason) -> float | None:
        labels = {"mode": "seeded", "reason": reason.value}
        return self.metrics.registry.get_sample_value("smpcfl_rejected_total", labels)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_a_heartbeat_that_tells_of_a_new_draw_is_followed(world: World) -> None:
    await world.draws.follow()
    assert world.asked == 0  # there was no draw
    world.make_draw()
    world.draw = world.registry.number
    await world.draws.follow()
    assert world.kept.number == world.registry.number
    await world.draws.follow()
    assert world.asked == 1
    own = world.draws.grouping.drawn.group_of(ME)
    assert own is not None
    assert world.draws.grouping.needed()


async def test_a_ticket_of_a_draw_that_is_not_known_is_asked_about(world: World) -> None:
    world.make_draw()
    signed = world.ticket(world.registry.number)
    await world.draws.learn(signed)
    assert world.kept.number == world.registry.number
    await world.draws.learn(signed)
    assert world.asked == 1


async def test_what_the_aggregator_did_not_sign_is_not_asked_about(world: World) -> None:
    await world.draws.learn(world.ticket(10**12, lambda message: bytes(64)))
    assert world.asked == 0


async def test_without_the_registry_the_peer_goes_on_as_before(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.make_draw()
    world.draw = world.registry.number
    await world.draws.follow()
    before = world.kept.number
    world.down = True
    await world.draws.learn(world.ticket(before + 1))
    assert world.kept.number == before
    assert "does not tell its draw" in caplog.text


async def test_a_draw_that_is_refused_is_counted(world: World) -> None:
    world.make_draw()
    world.draw = world.registry.number
    world.registry._newest.groups[0].signature = bytes(64)
    world.registry._newest.groups[1].signature = bytes(64)
    await world.draws.follow()
    assert world.kept.number == 0
    assert world.rejected(Reason.BAD_SIGNATURE) == 1


async def test_a_disk_that_is_full_leaves_the_old_draw(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(reply: pb.DrawReply) -> bool:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(world.kept, "take", full)
    world.draw = 1
    await world.draws.follow()
    assert "cannot be kept" in caplog.text


async def test_a_peer_that_came_later_is_told_to_wait(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.keys = {peer: world.keys[peer] for peer in PEERS if peer != ME} | {"peer-x": bytes(32)}
    world.make_draw()
    world.draw = world.registry.number
    await world.draws.follow()
    assert world.kept.groups == ()
    assert "waits for the next one" in caplog.text


def test_it_knows_its_own_key_and_those_of_its_directory(world: World) -> None:
    fingerprint_of = world.draws.grouping.fingerprint_of
    assert fingerprint_of(ME) == world.keys[ME]
    assert fingerprint_of(PEERS[1]) is None
    der = world.deployment.certificate(Role.PEER, PEERS[1])
    assert fingerprint_of(PEERS[1]) is None
    assert world.members.add(der).fingerprint == (fingerprint_of(PEERS[1]) or b"").hex()
