"""The aggregator's view of the draw: the newest one, waited for if there has to be one, and ledgers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from smpc.v1 import registry_pb2 as pb
from smpcfl.base import files
from smpcfl.base.state import State
from smpcfl.flower.server import drawn_groups
from smpcfl.flower.server.drawn_groups import DrawnGroups
from smpcfl.net.certificates import Role
from smpcfl.protocol.policy import Policy
from smpcfl.protocol.signing import AGGREGATOR
from support.enrolled import Deployment, draws_of
from support.network import make_ticket, peer_ids

PEERS = {peer: bytes([place]) * 32 for place, peer in enumerate(peer_ids(12))}


class World:
    """A registry in memory, in place of the directory that asks it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        deployment = Deployment(folder / "deployment")
        self.registry = draws_of(deployment.authority, folder / "registry", 5)
        self.wanted = State(folder / "registry").draw_wanted
        self.own = deployment.identity(Role.AGGREGATOR, AGGREGATOR)
        self.state = folder / "aggregator"
        self.state.mkdir()
        self.peers = 12
        self.down = False
        self.asked = 0
        self.slept = 0
        monkeypatch.setattr(drawn_groups, "Directory", self.directory)
        monkeypatch.setattr(drawn_groups.time, "sleep", self.sleep)
        self.restart()

    def restart(self) -> None:
        self.groups = DrawnGroups(self.own, "", self.state)

    def make_draw(self) -> None:
        files.write_private(self.wanted, b"")
        assert self.registry.keep(PEERS, lambda: PEERS)

    def sleep(self, seconds: float) -> None:
        self.slept += 1
        assert self.slept < 5, "nothing comes of this waiting"
        if self.slept == 3:
            self.make_draw()

    def directory(self, own: Any, address: str, cache: Path) -> World:
        return self

    # -- what a directory does --------------------------------------------------------------------

    async def lookup(self) -> None:
        if self.down:
            empty: Any = ()
            raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, empty, empty, "no")

    @property
    def draw(self) -> int:
        return 0 if self.down else self.registry.number

    @property
    def needs_draw(self) -> bool:
        return self.peers >= 10

    async def ask_draw(self) -> pb.DrawReply:
        self.asked += 1
        return self.registry.told_all()

    async def close(self) -> None:
        pass


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def test_a_small_deployment_has_none(world: World) -> None:
    world.peers = 9
    assert world.groups.now() == ()


def test_a_large_one_waits_for_the_first_draw(world: World) -> None:
    groups = world.groups.now()
    assert world.slept == 3
    assert sorted(peer for group in groups for peer in group.cohort) == list(PEERS)


def test_the_draw_is_asked_for_once_and_there_after_a_restart(world: World) -> None:
    world.make_draw()
    first = world.groups.now()
    assert world.groups.now() == first
    assert world.asked == 1
    world.restart()
    world.down = True
    assert world.groups.now() == first


def test_a_new_draw_takes_the_place_of_the_old_one(world: World) -> None:
    world.make_draw()
    first = world.groups.now()
    world.make_draw()
    second = world.groups.now()
    assert second[0].draw > first[0].draw


def test_a_draw_of_before_is_gone_by_however_few_are_left(world: World) -> None:
    world.make_draw()
    world.peers = 7
    assert len(world.groups.now()) == 2


def test_each_group_has_a_ledger_that_is_kept_while_the_draw_is_the_newest(world: World) -> None:
    world.make_draw()
    one, other = world.groups.now()
    ticket = make_ticket(6, cohort=one.cohort, draw=one.draw, group=one.group).ticket
    world.groups.ledger(one).agree(ticket, range(6), Policy())
    assert world.groups.ledger(one) is world.groups.ledger(one)
    world.restart()
    world.groups.now()
    model = ticket.model_digest
    assert world.groups.ledger(one).again(model, one.cohort) is not None
    assert world.groups.ledger(other).again(model, one.cohort) is None
    folder = State(world.state).ledgers(one.draw)
    assert folder.is_dir()
    world.make_draw()
    new, _ = world.groups.now()
    assert not folder.exists()
    assert world.groups.ledger(new).again(model, one.cohort) is None


def test_after_a_day_without_a_new_draw_it_waits_or_does_without(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.make_draw()
    (first, _) = world.groups.now()
    monkeypatch.setattr(drawn_groups.time, "time", lambda: first.expires + 3_600)
    world.peers = 7
    assert world.groups.now() == ()
    world.peers = 12
    with pytest.raises(AssertionError, match="nothing comes of this waiting"):
        world.groups.now()
