"""The first traceback of a stack's peers, as it stands in their logs."""

from __future__ import annotations

from pathlib import Path

from smpcfl.base.state import State
from smpcfl.cli.peer_logs import first_traceback

TRACEBACK = """\
Traceback (most recent call last):
  File "app.py", line 3, in train
    raise ValueError("no column")
ValueError: no column"""


def log(folder: Path, peer: int, text: str) -> None:
    path = State(folder / f"peer-{peer}").log("supernode")
    path.parent.mkdir(parents=True)
    path.write_text(text)


def test_the_first_peer_that_has_one_is_named(tmp_path: Path) -> None:
    log(tmp_path, 0, "INFO: all is well\n")
    log(tmp_path, 1, f"INFO: training\n{TRACEBACK}\nINFO: later\n{TRACEBACK}\n")
    log(tmp_path, 2, TRACEBACK)
    assert first_traceback(tmp_path) == f"on peer-1:\n{TRACEBACK}"


def test_there_may_be_none_and_one_may_be_torn(tmp_path: Path) -> None:
    log(tmp_path, 0, "INFO: all is well\n")
    assert first_traceback(tmp_path) == ""
    log(tmp_path, 1, "Traceback (most recent call last):")
    assert first_traceback(tmp_path) == "on peer-1:\nTraceback (most recent call last):"
