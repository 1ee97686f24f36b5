"""A round of several groups: the sum of their sums, and what a lost group costs."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Error, Message
from flwr.serverapp.strategy import FedAvg, Result

import smpcfl.flower
from smpcfl.flower.server.secure_grid import SecureGrid
from smpcfl.flower.shared.records import ERROR_CODE, to_numpy
from smpcfl.protocol.draw import LIFE_S, Group, cut
from smpcfl.protocol.errors import LocalError
from smpcfl.protocol.ticket import ADDITIVE, NORMAL, SEEDED
from support.drawn import groups_of, seeded_entropy
from support.flower_peers import FlowerPeers, MakePeers, ticket_of
from support.network import peer_ids

CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}
W = np.linspace(-1, 1, 4, dtype=np.float32)


@pytest.fixture
def peers(make_peers: MakePeers) -> FlowerPeers:
    """Twelve in two groups of six; examples, steps and metrics all differ."""
    found = make_peers(12)
    for index, peer in enumerate(found.nodes.values()):
        found.steps[peer] = 0.02 * (index + 1)
        found.examples[peer] = 10 + 7 * index
        found.metrics[peer] = {"loss": 1.0 / (index + 1), "hits": [0.1 * index, 0.5]}
    found.groups = drawn_now("groups")
    return found


def drawn_now(seed: object, draw: int = 7) -> tuple[Group, ...]:
    issued = int(time.time())
    cohorts = cut(peer_ids(12), 5, seeded_entropy(seed))
    return tuple(groups_of(cohorts, draw, issued=issued, expires=issued + LIFE_S))


def secured(peers: FlowerPeers, mode: str = SEEDED, **options: Any) -> SecureGrid:
    return smpcfl.flower.secure(peers, mode=mode, width=32, grace_s=0.0, **options)


def model(**more: Any) -> ArrayRecord:
    return ArrayRecord({name: Array(array) for name, array in {"w": W, **more}.items()})


def trained(grid: SecureGrid, rounds: int = 1, **options: Any) -> Result:
    initial = options.pop("initial", model())
    return FedAvg(**options).start(grid, initial, num_rounds=rounds)


def mean_step(peers: FlowerPeers, names: Iterable[str]) -> float:
    chosen = list(names)
    weights = [peers.examples[name] for name in chosen]
    return float(np.average([peers.steps[name] for name in chosen], weights=weights))


def assert_moved_by(result: Result, step: float) -> None:
    np.testing.assert_allclose(to_numpy(result.arrays)["w"], W + step, **CLOSE)


@pytest.mark.parametrize("mode", [SEEDED, ADDITIVE])
def test_two_groups_give_what_one_cohort_gives(mode: str, peers: FlowerPeers) -> None:
    plain = trained(secured(peers, NORMAL), initial=model(n=np.array([7, -3])))
    grid = secured(peers, mode)
    found = trained(grid, initial=model(n=np.array([7, -3])))
    for name, array in to_numpy(found.arrays).items():
        np.testing.assert_allclose(array, to_numpy(plain.arrays)[name], **CLOSE)
    for where in ("train_metrics_clientapp", "evaluate_metrics_clientapp"):
        mine, theirs = getattr(found, where)[1], getattr(plain, where)[1]
        for key in ("loss", "hits"):
            np.testing.assert_allclose(mine[key], theirs[key], **CLOSE)
    (record,) = grid.records
    assert (record.cohort, record.survivors, record.contributors) == (12, 12, 12)
    assert record.draw == 7
    assert [(g.group, g.outcome, g.cohort, g.survivors) for g in record.groups] == [
        (1, "complete", 6, 6),
        (2, "complete", 6, 6),
    ]
    assert record.withstood == (1 if mode == SEEDED else 4)


def test_each_group_has_a_ticket_of_its_own(peers: FlowerPeers) -> None:
    trained(secured(peers), fraction_evaluate=0.0)
    tickets = {ticket_of(message).ticket for message in peers.asked}
    assert {(ticket.draw, ticket.group, ticket.cohort) for ticket in tickets} == {
        (7, group.group, group.cohort) for group in peers.groups
    }
    assert len({ticket.serial for ticket in tickets}) == 2
    assert {ticket.threshold for ticket in tickets} == {4}
    for message in peers.asked:
        assert peers.nodes[message.metadata.dst_node_id] in ticket_of(message).ticket.cohort


def test_a_lost_group_costs_its_own_part_of_the_round(
    peers: FlowerPeers, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    gone, there = peers.groups
    peers.lost = dict.fromkeys(gone.cohort[:2], "train")
    grid = secured(peers)
    assert_moved_by(trained(grid, fraction_evaluate=0.0), mean_step(peers, there.cohort))
    (record,) = grid.records
    assert (record.outcome, record.cohort, record.survivors) == ("complete", 12, 6)
    assert [group.outcome for group in record.groups] == ["void", "complete"]
    assert "4 of 6 uploaded" in record.groups[0].reason
    assert "group 1 is void: too_few_survivors" in caplog.text
    assert "round 1 is void" not in caplog.text


def test_what_is_tolerated_is_tolerated_in_each_group(peers: FlowerPeers) -> None:
    lost = [group.cohort[2] for group in peers.groups]
    peers.lost = dict(zip(lost, ("exchange", "upload"), strict=True))
    grid = secured(peers)
    rest = [peer for peer in peer_ids(12) if peer not in lost]
    assert_moved_by(trained(grid, fraction_evaluate=0.0), mean_step(peers, rest))
    assert [group.survivors for group in grid.records[0].groups] == [5, 5]


def test_where_all_groups_are_lost_the_round_is_void(peers: FlowerPeers) -> None:
    peers.lost = {peer: "train" for group in peers.groups for peer in group.cohort[:2]}
    grid = secured(peers)
    assert not trained(grid, fraction_evaluate=0.0).arrays
    (record,) = grid.records
    assert (record.outcome, record.survivors) == ("void", 0)
    assert record.reason.startswith("all 2 groups are void, the first: too_few_survivors")


class Staying(dict[str, bytes]):
    """Agents that start no other process when they are lost in a round."""

    def pop(self, peer: str, *default: Any) -> Any:
        return self.get(peer, *default)


def test_over_a_model_that_was_summed_in_vain_each_group_is_asked_for_the_same_sum(
    peers: FlowerPeers,
) -> None:
    """All agreed and then were lost: the next round goes on over the same model, and completes."""
    peers.lost = {peer: "unmask" for group in peers.groups for peer in group.cohort[:4]}
    peers.agents = Staying(peers.agents)
    grid = secured(peers)
    result = trained(grid, rounds=2, fraction_evaluate=0.0)
    assert [record.outcome for record in grid.records] == ["void", "complete"]
    assert_moved_by(result, mean_step(peers, peer_ids(12)))


def test_metrics_are_those_of_the_groups_that_have_any(peers: FlowerPeers) -> None:
    bad, good = peers.groups
    peers.metrics[bad.cohort[0]] = {"loss": float("nan"), "hits": [0.0, 0.0]}
    grid = secured(peers)
    found = trained(grid).train_metrics_clientapp[1]
    weights = [peers.examples[peer] for peer in good.cohort]
    losses = [peers.metrics[peer]["loss"] for peer in good.cohort]
    assert found["loss"] == pytest.approx(np.average(losses, weights=weights))


def refusing(text: str) -> Any:
    return lambda reply: Message(Error(ERROR_CODE, text), reply_to=reply)


def test_a_group_whose_peers_all_refuse_ends_no_run_while_another_goes_on(
    peers: FlowerPeers,
) -> None:
    refusers = peers.groups[0].cohort
    peers.altered = {peer: refusing("policy_cohort: cohort too small") for peer in refusers}
    grid = secured(peers)
    trained(grid, fraction_evaluate=0.0)
    (record,) = grid.records
    assert [group.outcome for group in record.groups] == ["void", "complete"]
    assert "6 of 6 peers refused: policy_cohort" in record.groups[0].reason


def test_where_all_peers_of_all_groups_refuse_the_run_ends(peers: FlowerPeers) -> None:
    text = "policy_cohort: cohort too small"
    peers.altered = {peer: refusing(text) for peer in peers.nodes.values()}
    with pytest.raises(LocalError, match="all 6 peers refuse: policy_cohort"):
        trained(secured(peers), fraction_evaluate=0.0)


def test_who_is_suspected_stands_in_the_record(peers: FlowerPeers) -> None:
    culprit, grid = peer_ids(12)[3], secured(peers)
    for number in range(1, 6):
        peers.groups = drawn_now(number, number)
        (own,) = (group for group in peers.groups if culprit in group.cohort)
        others = [peer for peer in own.cohort if peer != culprit]
        peers.lost = {culprit: "upload", others[0]: "upload"}
        FedAvg(fraction_evaluate=0.0).start(grid, model(x=np.array([number])), num_rounds=1)
        peers.agents.update(dict.fromkeys(peers.nodes.values(), b"1"))
    # Two groups of six: four draws in a row, as 12 / 2^4 is below one.
    assert [bool(record.suspected) for record in grid.records] == [False] * 3 + [True] * 2
    assert culprit in grid.records[-1].suspected
    assert len(grid.records[-1].suspected[culprit]) == 5
    assert grid.records[-1].cohort == 12  # and it is asked all the same
