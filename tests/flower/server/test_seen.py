"""What is kept for the report of what the aggregator sees: of a plain round, and of a secure one."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord
from flwr.serverapp.strategy import FedAvg

import smpcfl.flower
from smpcfl.base.state import State
from smpcfl.flower.server.seen import SeenUpdates
from smpcfl.protocol.ring import Layout
from smpcfl.protocol.ticket import NORMAL, SEEDED
from smpcfl.reports import pictures
from smpcfl.reports.pictures import SUM, UPDATE, UPLOAD, Picture
from support.flower_peers import FlowerPeers, MakePeers
from support.network import peer_ids

MODEL = {
    "n": np.zeros(3, np.int64),
    "b": np.zeros(2, np.float32),
    "w": np.zeros((4, 64), np.float32),
}


@pytest.fixture
def five(make_peers: MakePeers) -> FlowerPeers:
    peers = make_peers(5)
    for peer in peers.nodes.values():
        peers.steps[peer] = 0.1
    return peers


def kept(five: FlowerPeers, mode: str) -> list[Picture]:
    grid = smpcfl.flower.secure(five, mode=mode, width=32)
    grid.server.seen = SeenUpdates(State(grid.server.state).seen)
    initial = ArrayRecord({"w": Array(np.zeros((2, 64), np.float32))})
    FedAvg(fraction_evaluate=0.0).start(grid, initial, num_rounds=2)
    return pictures.load(State(grid.server.state).seen)


def test_of_a_plain_round_one_update_is_kept(five: FlowerPeers) -> None:
    (picture,) = kept(five, NORMAL)
    assert (picture.kind, picture.peer, picture.round) == (UPDATE, peer_ids(5)[0], 1)
    assert grey_of(picture) == {254}, "each entry goes up by the same step"


def test_of_a_secure_round_one_upload_and_the_sum_are_kept(five: FlowerPeers) -> None:
    upload, summed = kept(five, SEEDED)
    assert (upload.kind, upload.peer, upload.round) == (UPLOAD, peer_ids(5)[0], 1)
    assert (summed.kind, summed.peer) == (SUM, "")
    assert grey_of(summed) <= {253, 254}
    assert len(grey_of(upload)) > 2, "a partial sum is noise"


def grey_of(picture: Picture) -> set[int]:
    return set(base64.b64decode("".join(picture.tiles[:1])))


def test_the_rows_of_an_upload_are_those_of_the_array(tmp_path: Path) -> None:
    layout = Layout(16, 2 + 256, 9)
    words = np.arange(layout.body, dtype=np.uint16) << 8
    seen = SeenUpdates(tmp_path / "seen.json")
    seen.upload("p", 1, MODEL, layout, words.tobytes() + bytes(72))
    (picture,) = pictures.load(tmp_path / "seen.json")
    assert picture.array == "w"
    assert list(base64.b64decode(picture.tiles[0])) == list(range(2, 66))


def test_the_first_of_each_kind_is_kept_and_a_full_disk_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = SeenUpdates(tmp_path / "seen.json")
    after = {**MODEL, "w": MODEL["w"] + 1}
    for number in (1, 2):
        seen.change(SUM, "", number, MODEL, after)
    assert [picture.round for picture in pictures.load(tmp_path / "seen.json")] == [1]

    def full(*_: object) -> None:
        raise OSError(28, "no space left")

    monkeypatch.setattr(pictures, "keep", full)
    seen.change(UPDATE, "p", 3, MODEL, after)


@pytest.mark.parametrize("odd", [np.ones((4, 63)), np.ones((4, 64), "U1")], ids=["shape", "dtype"])
def test_a_reply_of_something_else_has_no_picture(odd: Any, tmp_path: Path) -> None:
    """It is for the strategy to refuse it."""
    SeenUpdates(tmp_path / "seen.json").change(UPDATE, "p", 1, MODEL, {**MODEL, "w": odd})
    assert not (tmp_path / "seen.json").exists()


def test_a_model_without_floats_has_no_picture(tmp_path: Path) -> None:
    seen = SeenUpdates(tmp_path / "seen.json")
    seen.change(SUM, "", 1, {"n": np.zeros(3, np.int64)}, {"n": np.ones(3, np.int64)})
    seen.upload("p", 1, {}, Layout(16, 0, 9), bytes(72))
    assert not (tmp_path / "seen.json").exists()
