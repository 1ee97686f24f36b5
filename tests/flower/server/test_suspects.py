"""Peers whose groups keep ending void while others complete: when they are named, and no more than that."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from smpcfl.flower.server.suspects import Suspects
from smpcfl.protocol.draw import Group, cut
from smpcfl.reports.record import GroupRecord
from support.drawn import groups_of, seeded_entropy
from support.network import peer_ids

PEERS = peer_ids(60)
CULPRIT = PEERS[17]


def draw(number: int, size: int = 5) -> list[Group]:
    return groups_of(cut(PEERS, size, seeded_entropy(number)), number)


def outcomes(groups: Sequence[Group], void: Iterable[int]) -> list[GroupRecord]:
    bad = set(void)
    return [
        GroupRecord(
            group=group.group,
            outcome="void" if group.group in bad else "complete",
            cohort=len(group.cohort),
            survivors=0 if group.group in bad else len(group.cohort),
        )
        for group in groups
    ]


def group_of(peer: str, groups: Sequence[Group]) -> int:
    return next(group.group for group in groups if peer in group.cohort)


def test_who_voids_its_group_in_each_draw_is_named_with_the_rounds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    suspects, found = Suspects(tmp_path / "suspects.json"), {}
    for number in range(1, 4):
        groups = draw(number)
        for _ in range(3):
            found = suspects.take(groups, 9, number, outcomes(groups, [group_of(CULPRIT, groups)]))
        # 60 peers in 12 groups: two draws name 60 / 144 others, by chance nobody.
        assert (CULPRIT in found) == (number >= 2)
    assert found == {CULPRIT: ((9, 1),) * 3 + ((9, 2),) * 3 + ((9, 3),) * 3}
    assert caplog.text.count(f"{CULPRIT} is suspected: in 2 draws") == 1
    assert "1 of run 9" in caplog.text


def test_within_one_draw_nobody_can_be_told_from_its_group(tmp_path: Path) -> None:
    suspects, groups = Suspects(tmp_path / "suspects.json"), draw(1)
    for number in range(100):
        assert suspects.take(groups, 1, number, outcomes(groups, [3])) == {}


def test_a_round_that_is_void_for_all_tells_of_nobody(tmp_path: Path) -> None:
    suspects = Suspects(tmp_path / "suspects.json")
    for number in range(1, 6):
        groups = draw(number)
        everyone = [group.group for group in groups]
        assert suspects.take(groups, 1, number, outcomes(groups, everyone)) == {}


def test_groups_that_fail_now_and_then_name_nobody(tmp_path: Path) -> None:
    suspects, chance = Suspects(tmp_path / "suspects.json"), random.Random(1)
    for number in range(1, 16):
        groups = draw(number)
        for _ in range(10):
            failed = [group.group for group in groups if chance.random() < 0.1]
            assert suspects.take(groups, 1, number, outcomes(groups, failed)) == {}


def test_whose_group_completes_in_the_next_draw_is_suspected_no_more(tmp_path: Path) -> None:
    suspects, found = Suspects(tmp_path / "suspects.json"), {}
    for number in (1, 2):
        groups = draw(number)
        found = suspects.take(groups, 1, number, outcomes(groups, [group_of(CULPRIT, groups)]))
    assert CULPRIT in found
    assert suspects.take(draw(3), 1, 3, outcomes(draw(3), [])) == {}


def test_the_fewer_groups_the_more_draws_it_takes(tmp_path: Path) -> None:
    suspects = Suspects(tmp_path / "suspects.json")
    named = []
    for number in range(1, 8):
        groups = draw(number, 20)  # three of 20: 60 / 3^4 is below one
        found = suspects.take(groups, 1, number, outcomes(groups, [group_of(CULPRIT, groups)]))
        named.append(CULPRIT in found)
    assert named == [False] * 3 + [True] * 4


def test_it_is_all_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "suspects.json"
    for number in (1, 2):
        groups = draw(number)
        Suspects(path).take(groups, 1, number, outcomes(groups, [group_of(CULPRIT, groups)]))
    (one,) = (suspect for suspect in Suspects(path).named() if suspect.peer == CULPRIT)
    assert (one.peer, one.draws, one.rounds) == (CULPRIT, 2, ((1, 1), (1, 2)))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[3]",
        b'[{"draw": 1}]',
        b'[{"draw": 1, "members": 3}]',
        b'[{"draw": 1, "members": [["a"]], "void": [1, 2]}]',
        b'[{"draw": 1, "members": [["a"]], "void": ["1"]}]',
        b'[{"draw": 1, "members": [[2]]}]',
        b"[" * 100_000,
    ],
)
def test_a_file_that_cannot_be_read_is_begun_anew(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "suspects.json"
    path.write_bytes(content)
    caplog.set_level(logging.WARNING)
    assert Suspects(path).named() == []
    assert "begun anew" in caplog.text


def test_a_disk_that_is_full_stops_no_round(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "file" / "suspects.json"
    suspects, groups = Suspects(path), draw(1)
    (tmp_path / "file").write_bytes(b"")
    suspects.take(groups, 1, 1, outcomes(groups, []))
    assert "cannot write" in caplog.text


def test_all_void_rounds_are_counted_and_the_last_ones_named(tmp_path: Path) -> None:
    suspects, found = Suspects(tmp_path / "suspects.json"), {}
    for number in (1, 2):
        groups = draw(number)
        own = group_of(CULPRIT, groups)
        for round_ in range(30):
            found = suspects.take(groups, number, round_, outcomes(groups, [own]))
        for round_ in range(30, 55):
            found = suspects.take(groups, number, round_, outcomes(groups, []))
    assert found[CULPRIT] == tuple((run, r) for run in (1, 2) for r in range(10, 30))
    for round_ in range(55, 60):  # as often complete as void, in the last draw
        found = suspects.take(draw(2), 2, round_, outcomes(draw(2), []))
    assert found == {}


def test_without_a_file_it_remembers_as_long_as_it_lives() -> None:
    suspects, found = Suspects(None), {}
    for number in (1, 2):
        groups = draw(number)
        found = suspects.take(groups, 1, number, outcomes(groups, [group_of(CULPRIT, groups)]))
    assert CULPRIT in found
