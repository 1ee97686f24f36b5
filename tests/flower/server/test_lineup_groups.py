"""Which cohorts a round has where there are groups: whole ones, and only those that can."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from smpcfl.flower.server.lineup import Chosen
from smpcfl.flower.server.lineup_groups import GroupLineup, Part
from smpcfl.flower.server.secure_options import Options
from smpcfl.protocol.draw import Group
from smpcfl.protocol.ledger import Ledger
from smpcfl.protocol.policy import Policy
from smpcfl.protocol.ticket import EVALUATE, SEEDED, TRAIN, default_threshold
from support.drawn import groups_of
from support.network import make_ticket, peer_ids

PEERS = peer_ids(24)
MODEL = bytes(32)
GROUPS = tuple(groups_of([PEERS[first::4] for first in range(4)]))
EVERYONE = range(1, 25)


class World:
    """Node i + 1 is peer i; those that are `there`, and what the aggregator remembers of each group."""

    def __init__(self, groups: Sequence[Group] = GROUPS) -> None:
        self.there = list(PEERS)
        self.alone: list[str] = []
        self.groups_now = tuple(groups)
        self.ledgers = {group.group: Ledger() for group in groups}
        self.whole = Ledger()
        server = SimpleNamespace(
            groups=lambda: self.groups_now,
            ledger_of=lambda group: self.ledgers[group.group],
            ledger=self.whole,
        )
        lineup = SimpleNamespace(
            present=self.present,
            to_train=lambda sampled, model: Chosen.of(self.present()),
            to_evaluate=lambda: Chosen.of(self.present()),
        )
        settings = Options(mode=SEEDED, min_peers=5)
        self.lineup = GroupLineup(cast(Any, lineup), cast(Any, server), settings)

    def present(self) -> dict[int, str]:
        return {place: peer for place, peer in enumerate(PEERS, 1) if peer in self.there}

    def train(self, sampled: Sequence[int] = EVERYONE) -> list[Part]:
        return self.lineup.to_train(sampled, MODEL)

    def agree(self, group: Group, survivors: Sequence[str], task: str = TRAIN) -> None:
        """The aggregator asked this group for a sum over the model, and it may have been answered."""
        size = len(group.cohort)
        ticket = make_ticket(
            size,
            cohort=group.cohort,
            threshold=default_threshold(size - 1),
            task=task,
            draw=group.draw,
            group=group.group,
            **({"body": 0} if task == EVALUATE else {}),
        ).ticket
        places = [ticket.index(peer) for peer in survivors]
        self.ledgers[group.group].agree(ticket, places, Policy())


@pytest.fixture
def world() -> World:
    return World()


def numbers(parts: list[Part]) -> list[int]:
    return [part.group.group for part in parts if part.group and part.chosen]


def test_every_group_takes_part_whole(world: World) -> None:
    parts = world.train()
    assert numbers(parts) == [1, 2, 3, 4]
    for part, group in zip(parts, GROUPS, strict=True):
        assert part.chosen is not None
        assert part.chosen.cohort == group.cohort
        assert sorted(part.chosen.peers.values()) == list(group.cohort)
        assert part.chosen.within is None
        assert part.ledger is world.ledgers[group.group]


def test_who_is_away_is_in_the_cohort_and_is_not_asked(world: World) -> None:
    world.there.remove(PEERS[0])
    (first, *_) = world.train()
    assert first.chosen is not None
    assert first.chosen.cohort == GROUPS[0].cohort
    assert sorted(first.chosen.peers.values()) == list(GROUPS[0].cohort[1:])


def test_a_group_with_too_few_members_sits_out_and_says_why(world: World) -> None:
    world.there = [peer for peer in PEERS if peer not in GROUPS[2].cohort[:2]]
    parts = world.train()
    assert numbers(parts) == [1, 2, 4]
    assert parts[2].reason == "4 of 6 members are there, at least 5 are needed"


@pytest.mark.parametrize(("sampled", "groups"), [(24, 4), (13, 3), (12, 2), (7, 2), (1, 1)])
def test_a_strategy_that_samples_gets_as_many_groups_as_hold_its_sample(
    sampled: int, groups: int, world: World
) -> None:
    assert len(numbers(world.train(range(sampled)))) == groups


def test_which_groups_are_sampled_changes_from_round_to_round(world: World) -> None:
    assert {tuple(numbers(world.train([1]))) for _ in range(100)} == {(1,), (2,), (3,), (4,)}


def test_peers_that_came_after_the_draw_sit_out_and_are_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    world = World(groups_of([PEERS[:10], PEERS[10:20]]))
    for _ in range(3):
        asked = [
            peer for part in world.train() if part.chosen for peer in part.chosen.peers.values()
        ]
        assert sorted(asked) == list(PEERS[:20])
    assert caplog.text.count("4 peers are not in draw 7 and sit out") == 1


def test_over_a_model_that_was_summed_a_group_is_asked_for_the_same_sum(world: World) -> None:
    group = GROUPS[1]
    world.agree(group, group.cohort[:5])
    part = world.train()[1]
    assert part.chosen is not None
    assert part.chosen.cohort == group.cohort
    assert part.chosen.within == frozenset(group.cohort[:5])


def test_where_one_of_that_sum_is_missing_the_group_sits_out(world: World) -> None:
    group = GROUPS[1]
    world.agree(group, group.cohort[:5])
    world.there.remove(group.cohort[0])
    parts = world.train()
    assert numbers(parts) == [1, 3, 4]
    assert "over this model a sum was agreed to before" in parts[1].reason


def test_where_no_group_can_it_waits(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = World()
    world.there = [peer for group in GROUPS for peer in group.cohort[:4]]
    monkeypatch.setattr("time.sleep", lambda _: world.there.extend(GROUPS[3].cohort[4:]))
    assert numbers(world.train()) == [4]
    assert "waiting: no group can take part, the first one: 4 of 6 members" in caplog.text


def test_an_evaluation_asks_the_groups_of_the_last_training(world: World) -> None:
    assert numbers(world.lineup.to_evaluate()) == [1, 2, 3, 4]
    trained = numbers(world.train([1]))
    assert numbers(world.lineup.to_evaluate()) == trained
    world.groups_now = tuple(groups_of([group.cohort for group in GROUPS], 8))
    assert numbers(world.lineup.to_evaluate()) == [1, 2, 3, 4]


def test_an_evaluation_is_over_whom_the_training_was(world: World) -> None:
    world.train()
    world.agree(GROUPS[0], GROUPS[0].cohort[1:])
    parts = world.lineup.to_evaluate()
    assert parts[0].chosen is not None
    assert parts[0].chosen.within == frozenset(GROUPS[0].cohort[1:])
    world.there.remove(GROUPS[0].cohort[1])
    assert numbers(world.lineup.to_evaluate()) == [2, 3, 4]


def test_without_groups_there_is_one_cohort() -> None:
    world = World(())
    (part,) = world.train()
    assert part.group is None
    assert part.chosen == Chosen.of(world.present())
    assert part.ledger is world.whole
    (part,) = world.lineup.to_evaluate()
    assert part.chosen == Chosen.of(world.present())
