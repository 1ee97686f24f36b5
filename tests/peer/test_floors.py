"""When a peer's uploads may leave is on its disk, for each task by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from smpcfl.base.files import StorageError
from smpcfl.peer import floors as module
from smpcfl.peer.floors import Floors
from smpcfl.protocol.release import DECAY
from smpcfl.protocol.ticket import EVALUATE, TRAIN

LIMIT_MS = 90_510


def test_each_task_has_a_floor_of_its_own_and_both_outlast_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "floors.json"
    floors = Floors(path)
    assert (floors.ms(TRAIN), floors.ms(EVALUATE)) == (0, 0)
    floors.left(TRAIN, 11_314, LIMIT_MS)
    floors.left(EVALUATE, 2_000, LIMIT_MS)
    again = Floors(path)
    assert (again.ms(TRAIN), again.ms(EVALUATE)) == (11_314, 2_000)
    assert path.stat().st_mode & 0o077 == 0


def test_how_many_left_no_later_and_since_when_is_kept_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else an agent that starts again before the tenth, or every day, would never come down."""
    path = tmp_path / "floors.json"
    now = [1e9]
    monkeypatch.setattr(module.time, "time", lambda: now[0])
    Floors(path).left(TRAIN, 8_000, LIMIT_MS)
    for _ in range(2 * DECAY):
        Floors(path).left(TRAIN, 8_000, LIMIT_MS)
    assert Floors(path).ms(TRAIN) == 8_000, "a day has not passed"
    now[0] += 24 * 3600
    Floors(path).left(TRAIN, 8_000, LIMIT_MS)
    assert Floors(path).ms(TRAIN) == 5_657


def test_a_file_without_the_time_of_the_last_move_is_read(tmp_path: Path) -> None:
    path = tmp_path / "floors.json"
    path.write_text('{"train": {"ms": 4000, "since": 3}, "evaluate": {"ms": 0, "since": 0}}')
    assert Floors(path).ms(TRAIN) == 4_000


def test_without_a_path_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    floors = Floors()
    floors.left(TRAIN, 8_000, LIMIT_MS)
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
        '{"train": {"ms": 2000, "since": 0, "moved_ms": "now"}, "evaluate": {"ms": 0, "since": 0}}',
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
    floors.left(TRAIN, 8_000, LIMIT_MS)
    assert floors.ms(TRAIN) == 8_000
    assert "cannot write" in caplog.text
    assert "No space left" in caplog.text
