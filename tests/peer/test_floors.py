"""When a peer's uploads may leave is on its disk, for each task by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from smpcfl.base.files import StorageError
from smpcfl.peer import floors as module
from smpcfl.peer.floors import Floors
from smpcfl.protocol.release import DECAY
from smpcfl.protocol.ticket import EVALUATE, TRAIN


def test_each_task_has_a_floor_of_its_own_and_both_outlast_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "floors.json"
    floors = Floors(path)
    assert (floors.ms(TRAIN), floors.ms(EVALUATE)) == (0, 0)
    floors.left(TRAIN, 11_314)
    floors.left(EVALUATE, 2_000)
    again = Floors(path)
    assert (again.ms(TRAIN), again.ms(EVALUATE)) == (11_314, 2_000)
    assert path.stat().st_mode & 0o077 == 0


def test_how_many_left_no_later_is_kept_too(tmp_path: Path) -> None:
    """Else an agent that starts again before the tenth would never come down."""
    path = tmp_path / "floors.json"
    Floors(path).left(TRAIN, 8_000)
    for _ in range(DECAY):
        Floors(path).left(TRAIN, 8_000)
    assert Floors(path).ms(TRAIN) == 5_657


def test_without_a_path_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    floors = Floors()
    floors.left(TRAIN, 8_000)
    assert floors.ms(TRAIN) == 8_000
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        "null",
        '{"train": {"ms": 2000, "since": 0}}',
        '{"train": {"ms": 2000}, "evaluate": {"ms": "2000"}}',
        '{"train": {"ms": 2000.5, "since": 0}, "evaluate": {"ms": 0, "since": 0}}',
        '{"train": {"ms": true, "since": 0}, "evaluate": {"ms": 0, "since": 0}}',
        '{"train": {"ms": 2000, "until": 0}, "evaluate": {"ms": 0, "since": 0}}',
        '{"train": [2000, 0], "evaluate": {"ms": 0, "since": 0}}',
        '{"train": {"ms": -1, "since": 0}, "evaluate": {"ms": 0, "since": 0}}',
        '{"train": {"ms": 2000, "since": 99}, "evaluate": {"ms": 0, "since": 0}}',
    ],
)
def test_a_damaged_file_is_said_to_be_and_not_taken_for_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "floors.json"
    path.write_text(text)
    with pytest.raises(StorageError, match=r"floors\.json is damaged .*remove it"):
        Floors(path)


def test_where_it_cannot_be_written_it_still_holds_and_the_log_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    floors = Floors(tmp_path / "floors.json")
    monkeypatch.setattr(module, "write_private", full)
    floors.left(TRAIN, 8_000)
    assert floors.ms(TRAIN) == 8_000
    assert "cannot write" in caplog.text
    assert "No space left" in caplog.text
