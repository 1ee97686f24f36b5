"""How a run stands, as the live page and the progress in the terminal have it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from smpcfl.reports.snapshot import LivePeer, Snapshot
from support.reported import COMPLETE, VOID

PEERS = tuple(
    LivePeer(name=f"peer-{n}", via="mDNS and registry", flower_out=1000 * n) for n in range(5)
)
SNAPSHOT = Snapshot(
    mode="seeded",
    run=7,
    rounds=5,
    round=3,
    phase="upload",
    since=1.5,
    replies=4,
    cohort=tuple(peer.name for peer in PEERS),
    survivors=("peer-1",),
    here=5,
    peers=PEERS,
    flows=(("peer-0", "peer-1", 300), ("peer-1", "peer-0", 200), ("peer-1", "peer-2", 100)),
    records=(COMPLETE, VOID),
    said="waiting",
)


def test_a_snapshot_is_read_again() -> None:
    assert Snapshot.from_json(SNAPSHOT.to_json()) == SNAPSHOT
    nothing = Snapshot(mode="normal")
    assert Snapshot.from_json(nothing.to_json()) == nothing


@pytest.mark.parametrize("text", ["", "{}", "[]", "3", '{"mode": "seeded"}'])
def test_what_is_no_snapshot_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  the wording of the json module varies
        Snapshot.from_json(text.encode())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "round 3, 4 of 5 uploaded"),
        ({"phase": "train"}, "round 3, training"),
        ({"phase": "unmask"}, "round 3, agree and unmask"),
        ({"phase": ""}, "round 3, between rounds"),
        ({"round": 0}, "5 peers are there"),
        ({"round": 0, "peers": (), "here": 0}, "starting"),
    ],
)
def test_the_progress_is_a_few_words(change: dict[str, object], words: str) -> None:
    assert replace(SNAPSHOT, **change).progress() == words  # type: ignore[arg-type]


def test_the_progress_of_a_large_run_stays_short() -> None:
    many = tuple(f"peer-{n}" for n in range(10_000))
    large = replace(SNAPSHOT, round=1000, cohort=many, replies=9_999)
    assert len(large.progress()) <= 40


def test_nothing_that_a_peer_alone_knows_is_in_it() -> None:
    """Of each peer there are counts of bytes, and how it was found."""
    members = json.loads(SNAPSHOT.to_json())
    assert members["peers"][0].keys() == {
        *("name", "via", "flower_out", "flower_in", "unmask_out", "unmask_in"),
    }
