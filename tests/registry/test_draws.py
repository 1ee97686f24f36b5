"""The registry's draws: when there is one, kept before it is told, and that no caller makes one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from prometheus_client import CollectorRegistry

from smpc.v1 import registry_pb2 as pb
from smpcfl.base.files import StorageError, write_private
from smpcfl.base.metrics import Metrics
from smpcfl.base.state import State
from smpcfl.net.callers import Allowance, Callers
from smpcfl.net.certificates import Role
from smpcfl.protocol.draw import LIFE_S
from smpcfl.protocol.errors import LocalError
from smpcfl.registry import draws as draws_module
from smpcfl.registry import registry_service
from smpcfl.registry.authority import revoke
from smpcfl.registry.draws import EARLY_S, SETTLED_S, Draws, draw_by_hand
from smpcfl.registry.registry_service import RegistryService
from smpcfl.registry.roster import Roster
from support.enrolled import Deployment, draws_of
from support.network import peer_ids

PEERS = peer_ids(12)
KEYS = {peer: bytes([index]) * 32 for index, peer in enumerate(PEERS)}


class Registry:
    """One that has `draws`, with a clock of its own."""

    def __init__(self, folder: Path) -> None:
        self.now = 1_700_000_000.0
        self.state = folder / "registry"
        self.deployment = Deployment(folder / "deployment")
        self.restart()

    def restart(self) -> None:
        self.draws = draws_of(self.deployment.authority, self.state, 5, clock=lambda: self.now)

    def keep(self, living: tuple[str, ...] = PEERS) -> bool:
        return self.draws.keep(living, lambda: KEYS)

    def settle(self, living: tuple[str, ...] = PEERS) -> bool:
        self.keep(living)
        self.now += SETTLED_S
        return self.keep(living)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path)


def sizes(reply: pb.DrawReply) -> list[int]:
    return [len(group.members) for group in reply.groups]


def test_the_first_draw_waits_until_nobody_comes_any_more(registry: Registry) -> None:
    assert not registry.keep(PEERS[:10])
    registry.now += SETTLED_S - 1
    assert not registry.keep(PEERS)
    registry.now += SETTLED_S - 1
    assert not registry.keep(PEERS[:11])
    registry.now += 1
    assert registry.keep(PEERS)  # who left, and is back, held nothing up
    assert sizes(registry.draws.told_all()) == [6, 6]


def test_a_small_deployment_is_not_cut(registry: Registry) -> None:
    assert not registry.settle(PEERS[:9])
    assert registry.draws.number == 0
    assert registry.draws.told(PEERS[0]) == pb.DrawReply()


def test_there_is_one_draw_a_day(registry: Registry) -> None:
    assert registry.settle()
    first = registry.draws.told_all()
    for _ in range(100):
        registry.now += (LIFE_S - EARLY_S - 2) / 100
        assert not registry.keep()
    registry.now += 2
    assert registry.keep()
    second = registry.draws.told_all()
    assert second.draw > first.draw
    assert second.groups[0].issued < first.groups[0].expires
    assert not registry.keep()


def test_a_peer_is_told_its_own_group(registry: Registry) -> None:
    registry.settle()
    for peer in PEERS:
        (own,) = registry.draws.told(peer).groups
        assert peer in [member.peer for member in own.members]
    later = registry.draws.told("peer-later")
    assert later.draw == registry.draws.number
    assert not later.groups


def test_a_restart_gives_the_same_draw(registry: Registry) -> None:
    registry.settle()
    before = registry.draws.told_all()
    registry.restart()
    assert registry.draws.told_all() == before
    assert not registry.settle()
    assert registry.draws.told_all() == before


def test_a_draw_that_cannot_be_kept_is_told_to_nobody(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(draws_module, "write_private", full)
        with pytest.raises(OSError, match="No space"):
            registry.settle()
    assert registry.draws.number == 0
    assert registry.keep()
    assert registry.draws.number > 0


def test_a_folder_from_before_the_last_draw_gives_a_higher_number(registry: Registry) -> None:
    registry.settle()
    last = registry.draws.number
    State(registry.state).draw.unlink()
    registry.restart()
    registry.now += 1
    registry.settle()
    assert registry.draws.number > last


def test_a_damaged_draw_stops_the_registry(registry: Registry) -> None:
    registry.settle()
    path = State(registry.state).draw
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(StorageError, match="damaged"):
        registry.restart()


def test_who_is_away_is_drawn_all_the_same_but_for_one_in_twenty(registry: Registry) -> None:
    # Whoever cuts the honest ones off while the registry draws would else choose the share of the others.
    registry.settle(PEERS[:10])
    drawn = {member.peer for group in registry.draws.told_all().groups for member in group.members}
    assert drawn == set(PEERS)


def test_the_enrolled_are_drawn_and_not_the_revoked(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    deployment.certificate(Role.AGGREGATOR, "aggregator")
    for peer in PEERS[:3]:
        deployment.certificate(Role.PEER, peer)
    revoke(tmp_path / "state", PEERS[1])
    found = deployment.authority.enrolled()
    assert found.keys() == {PEERS[0], PEERS[2]}
    own = deployment.key(PEERS[0]).public_key()
    assert found[PEERS[0]].hex() == registry_service.certificates.fingerprint(own)
    later = Deployment(tmp_path)
    later.authority._clock = lambda: 10**10
    assert later.authority.enrolled() == {}


def test_a_ca_on_another_curve_signs_no_draw(registry: Registry) -> None:
    registry.draws._key = ec.generate_private_key(ec.SECP384R1())
    assert not registry.settle()


# -- by the operator's hand ----------------------------------------------------------------------------


def by_hand(registry: Registry, act: Callable[[], object]) -> pb.DrawReply | LocalError:
    """What `smpcfl draw` gives, while the registry does `act` every now and then."""
    found: list[pb.DrawReply | LocalError] = []

    def draw() -> None:
        try:
            found.append(draw_by_hand(registry.state, patience_s=5.0 if act else 0.0))
        except LocalError as error:
            found.append(error)

    thread = threading.Thread(target=draw)
    thread.start()
    while thread.is_alive():
        act()
        thread.join(0.01)
    return found[0]


def test_the_operator_draws_by_hand(registry: Registry) -> None:
    registry.settle()
    first = registry.draws.number
    found = by_hand(registry, registry.keep)
    assert isinstance(found, pb.DrawReply)
    assert found == registry.draws.told_all()
    assert found.draw > first
    assert not registry.keep()


def test_without_a_registry_no_draw_is_left_wanted(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="no draw within"):
        draw_by_hand(tmp_path, patience_s=0.0)
    assert not State(tmp_path).draw_wanted.exists()


def test_a_small_deployment_is_not_cut_by_hand_either(registry: Registry) -> None:
    write_private(State(registry.state).draw_wanted, b"")
    few = {peer: KEYS[peer] for peer in PEERS[:9]}
    assert not registry.draws.keep(few, lambda: few)
    assert not State(registry.state).draw_wanted.exists()


# -- what callers can do --------------------------------------------------------------------------------


async def test_ten_thousand_calls_of_an_aggregator_change_nothing(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.settle()
    before = registry.draws.told_all()
    monkeypatch.setattr(registry_service.rpc, "caller", lambda _: (Role.AGGREGATOR, "aggregator"))
    monkeypatch.setattr(registry_service.rpc, "caller_certificate", lambda _: b"")
    service: Any = RegistryService(
        registry.deployment.authority.own_identity([]),
        registry.deployment.authority,
        Roster(State(tmp_path).indices, 1),
        registry.draws,
        Metrics("seeded", CollectorRegistry()),
        Callers(Allowance(burst=10**6, in_flight=10)),
    )
    for _ in range(5_000):
        assert await service.Draw(pb.DrawRequest(), None) == before
        reply = await service.Lookup(pb.LookupRequest(), None)
        assert (reply.draw, reply.group_size) == (before.draw, 5)
    assert (
        Draws(
            registry.state,
            registry.deployment.authority.key,
            registry.deployment.ca,
            5,
        ).told_all()
        == before
    )
    assert not registry.keep()
