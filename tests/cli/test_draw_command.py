"""`smpcfl draw`: on the registry's own machine alone, and what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from smpc.v1 import registry_pb2 as pb
from smpcfl.cli.main import EXIT_ERROR, main
from smpcfl.net.kept_draw import group_to_proto
from smpcfl.protocol.draw import SignedGroup
from smpcfl.protocol.errors import LocalError
from smpcfl.registry import draws
from support.drawn import groups_of
from support.enrolled import Deployment
from support.network import peer_ids


def test_it_says_how_many_groups_there_are_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Deployment(tmp_path)
    made = groups_of([peer_ids(11)[:5], peer_ids(11)[5:]])
    reply = pb.DrawReply(
        draw=7, groups=[group_to_proto(SignedGroup(group, bytes(64))) for group in made]
    )
    monkeypatch.setattr(draws, "draw_by_hand", lambda state: reply)
    assert main(["draw", "--state", str(tmp_path / "state")]) == 0
    assert capsys.readouterr().out == "draw 7: 11 peers in 2 groups of 5 to 6, 0 left out\n"


def test_where_no_registry_keeps_its_state_it_does_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["draw", "--state", str(tmp_path)]) == EXIT_ERROR
    assert "no registry keeps its state in" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_registry_that_does_not_draw_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Deployment(tmp_path)

    def silent(state: Path) -> pb.DrawReply:
        raise LocalError("no draw within 10 s")

    monkeypatch.setattr(draws, "draw_by_hand", silent)
    assert main(["draw", "--state", str(tmp_path / "state")]) == EXIT_ERROR
    assert "smpcfl draw: no draw within 10 s" in capsys.readouterr().err
