"""What the SuperNode notes for the agent: which app each Flower run has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from smpcfl.daemons import run_apps
from smpcfl.daemons.run_apps import app_of_run, note, prepare
from smpcfl.protocol.errors import LocalError

RUN = 2**64 - 1
APP, OTHER = bytes(range(32)), bytes(32)


def test_what_is_noted_is_read_and_nobody_else_reads_it(tmp_path: Path) -> None:
    folder = tmp_path / "flower" / "run-apps"
    prepare(folder)
    assert app_of_run(folder, RUN) is None
    note(folder, RUN, OTHER)
    note(folder, RUN, APP)
    assert app_of_run(folder, RUN) == APP
    assert app_of_run(folder, 1) is None
    assert (folder / str(RUN)).stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in folder.iterdir()] == [str(RUN)]


def test_a_supernode_that_starts_knows_no_run(tmp_path: Path) -> None:
    note(tmp_path, RUN, APP)
    prepare(tmp_path)
    assert app_of_run(tmp_path, RUN) is None


@pytest.mark.parametrize("text", ["", APP.hex()[1:], APP.hex() + "\n", "g" * 64, "é" * 64])
def test_a_damaged_note_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / str(RUN)).write_text(text, encoding="utf-8")
    assert app_of_run(tmp_path, RUN) is None


def test_the_newest_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_apps, "KEPT", 3)
    for run in range(3):
        note(tmp_path, run, APP)
        os.utime(tmp_path / str(run), (run, run))
    assert all(app_of_run(tmp_path, run) == APP for run in range(3))
    os.utime(tmp_path / "0", (9, 9))
    note(tmp_path, 3, APP)
    assert {path.name for path in tmp_path.iterdir()} == {"0", "2", "3"}


def test_a_folder_that_cannot_be_emptied_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LocalError, match=r"cannot empty .*file"):
        prepare(tmp_path / "file")


@pytest.mark.commands
def test_who_reads_it_imports_nothing_of_flower() -> None:
    code = "import sys, smpcfl.daemons.run_apps; sys.exit('flwr' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
