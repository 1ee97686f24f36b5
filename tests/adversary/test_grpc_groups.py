"""Peers as deployed, in two drawn groups: each sums for itself, and follows no ticket but its own group's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from smpc.v1 import registry_pb2 as pb
from smpcfl.base import files
from smpcfl.base.state import State
from smpcfl.net import certificates
from smpcfl.net.certificates import Role
from smpcfl.protocol.draw import Group
from smpcfl.protocol.errors import Reason
from smpcfl.protocol.grouping import Grouping
from smpcfl.protocol.ticket import default_threshold
from smpcfl.registry.draws import Draws
from support.deployed import LONG_S, Deployed, beginning, outcome
from support.enrolled import draws_of
from support.unchecked import check, removed

pytestmark = pytest.mark.sockets


class Grouped(Deployed):
    """Ten peers; the registry's draws reach them by hand."""

    draws: Draws

    def draw(self) -> None:
        keys = {
            name: bytes.fromhex(certificates.fingerprint(self.enrolled.key(name).public_key()))
            for name in self.cohort
        }
        files.write_private(State(self.folder / "registry").draw_wanted, b"")
        assert self.draws.keep(self.cohort, lambda: keys)
        for name in self.cohort:
            self.tell(name)

    def tell(self, name: str, reply: pb.DrawReply | None = None) -> None:
        self.peers[name].draws._draw.take(reply or self.draws.told(name))

    @property
    def groups(self) -> tuple[Group, ...]:
        found = {}
        for name in self.cohort:
            own = self.peers[name].draws._draw.group_of(name)
            assert own is not None
            found[own.group] = own
        return tuple(found[number] for number in sorted(found))

    def ticket_of(self, group: Group, **changes: Any) -> Any:
        threshold = default_threshold(len(group.cohort) - 1)
        return self.make_ticket(
            **{
                "cohort": group.cohort,
                "threshold": threshold,
                "min_survivors": threshold + 1,
                "draw": group.draw,
                "group": group.group,
                **changes,
            }
        )


@pytest.fixture
async def net(tmp_path: Path) -> AsyncIterator[Grouped]:
    async with Grouped(tmp_path, 10) as grouped:
        grouped.draws = draws_of(grouped.enrolled.authority, tmp_path / "registry", 5)
        grouped.draw()
        yield grouped


async def refusals(net: Grouped, signed: Any, names: Any = None) -> list[Reason | None]:
    found = []
    for name in names or signed.ticket.cohort:
        reply = await outcome(net.peers[name].app.Begin(beginning(signed), timeout=LONG_S))
        found.append(reply if isinstance(reply, Reason) else None)
    return found


async def test_each_group_gives_the_sum_of_its_own(net: Grouped) -> None:
    for group in net.groups:
        others = [place for place, name in enumerate(net.cohort) if name not in group.cohort]
        await net.begin(net.ticket_of(group), without=others)
        await net.upload()
        assert await net.finish() == net.true_sum(group.cohort)


async def test_no_peer_follows_a_ticket_that_is_not_its_groups(net: Grouped) -> None:
    one, other = net.groups
    mixed = tuple(sorted((*one.cohort[:3], *other.cohort[:2])))
    signed = net.ticket_of(one, cohort=mixed)
    assert await refusals(net, signed) == [Reason.NOT_THE_GROUP] * 5
    alone = net.make_ticket()
    assert await refusals(net, alone) == [Reason.NO_DRAW] * 10
    assert net.rejected(Reason.NOT_THE_GROUP) == 5
    with removed(
        check(Grouping, "check", Reason.NOT_THE_GROUP),
    ):
        assert await refusals(net, net.ticket_of(one, cohort=mixed)) == [None] * 5


async def test_an_older_draw_is_refused_after_a_restart_too(net: Grouped) -> None:
    older = net.groups[0]
    net.draw()
    assert await refusals(net, net.ticket_of(older)) == [Reason.STALE_DRAW] * 5
    place = net.cohort.index(older.cohort[0])
    await net.restart(place)
    assert await refusals(net, net.ticket_of(older), older.cohort[:1]) == [Reason.STALE_DRAW]
    newest = net.groups[0]
    assert await refusals(net, net.ticket_of(newest)) == [None] * 5


async def test_a_member_that_shows_another_key_is_named(net: Grouped) -> None:
    group = net.groups[0]
    me, other = group.cohort[:2]
    net.enrolled._keys[other] = certificates.new_key()
    net.enrolled.authority.claims._claims.joinpath(other).unlink()
    net.peers[me].members.add(net.enrolled.certificate(Role.PEER, other))
    assert await refusals(net, net.ticket_of(group), [me]) == [Reason.WRONG_KEY]
