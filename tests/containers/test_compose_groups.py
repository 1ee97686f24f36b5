"""The Compose stack with ten peers in two groups of five: what the registry draws is what is trained in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from support.compose import Compose, engine_missing

PEERS, SIZE = 10, 5

pytestmark = [
    pytest.mark.containers,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(bool(engine_missing()), reason=f"no Docker engine: {engine_missing()}"),
]


@pytest.fixture(scope="module")
def grouped() -> Iterator[tuple[Compose, list[dict[str, Any]]]]:
    compose = Compose(
        "smpcfl-test-groups",
        SMPCFL_GROUP_SIZE=str(SIZE),
        SMPCFL_MIN_PEERS=str(PEERS),
        SMPCFL_ROUNDS="2",
    )
    try:
        compose("build", "registry", "aggregator", "peer")
        compose("up", "-d", "--scale", f"peer={PEERS}", "registry", "aggregator", "peer")
        compose.wait_for_log("accuracy", 2, seconds=600)
        yield compose, compose.records()
    finally:
        compose("down", "-v", "--timeout", "5", check=False)


def test_two_groups_of_five_train_together(
    grouped: tuple[Compose, list[dict[str, Any]]],
) -> None:
    compose, records = grouped
    assert [record["outcome"] for record in records] == ["complete"] * 2
    for record in records:
        assert (record["cohort"], record["survivors"]) == (PEERS, PEERS)
        assert [
            (group["group"], group["outcome"], group["cohort"], group["survivors"])
            for group in record["groups"]
        ] == [(1, "complete", SIZE, SIZE), (2, "complete", SIZE, SIZE)]
    assert len({record["draw"] for record in records}) == 1
    assert "groups 2/2" in compose("logs", "--no-color", "aggregator")


def test_each_peer_is_in_the_group_that_the_registry_drew(
    grouped: tuple[Compose, list[dict[str, Any]]],
) -> None:
    compose, records = grouped
    drawn = f"draw {records[0]['draw']}: {PEERS} peers in 2 groups of {SIZE} to {SIZE}, 0 left out"
    assert drawn in compose("logs", "--no-color", "registry")
    peers = compose("logs", "--no-color", "peer")
    for group in (1, 2):
        assert peers.count(f"group {group} of 2, {SIZE} members") == SIZE
    assert f"cohort of {SIZE}, threshold" in peers


def test_the_operator_draws_anew_and_the_next_run_goes_by_it(
    grouped: tuple[Compose, list[dict[str, Any]]],
) -> None:
    compose, before = grouped
    said = compose("exec", "-T", "registry", "smpcfl", "draw")
    assert f"{PEERS} peers in 2 groups of {SIZE} to {SIZE}, 0 left out" in said
    compose("exec", "-T", "aggregator", "smpcfl", "run", "--rounds", "1", seconds=600)
    last = compose.records()[-1]
    assert last["outcome"] == "complete", json.dumps(last)
    assert last["draw"] > before[-1]["draw"]
    assert said.startswith(f"draw {last['draw']}:")
