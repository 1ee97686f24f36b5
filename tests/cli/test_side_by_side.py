"""`smpcfl report`: what earlier commands left, side by side."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from smpcfl.cli.main import main
from smpcfl.reports.report import Report
from smpcfl.reports.write import write
from support.reported import COMPLETE, three_modes


def left(folder: Path, report: Report) -> Path:
    return write(folder, report)[0]


def test_two_reports_become_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = left(tmp_path / "before", Report(three_modes(), {"peers": 8}))
    left(tmp_path / "after", Report({"seeded": [COMPLETE]}, {"peers": 8}))
    both = tmp_path / "both"
    assert main(["report", str(one), str(tmp_path / "after"), "--report", str(both)]) == 0
    written = json.loads((both / "report.json").read_text("utf-8"))
    assert list(written["modes"]) == ["normal", "additive", "seeded (before)", "seeded (after)"]
    assert written["meta"]["peers"] == 8
    assert "seeded (after)" in (both / "report.html").read_text("utf-8")
    assert "after" in capsys.readouterr().out


def test_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for name in ("a", "b"):
        left(tmp_path / name / "report", Report({"seeded": [COMPLETE]}))
    files = [str(tmp_path / name / "report" / "report.json") for name in ("a", "b")]
    assert main(["report", *files, "--report", str(tmp_path / "both")]) == 0
    written = json.loads((tmp_path / "both" / "report.json").read_text("utf-8"))
    assert list(written["modes"]) == ["seeded (a/report)", "seeded (b/report)"]


def test_folders_with_points_in_their_names_are_told_apart(tmp_path: Path) -> None:
    for name in ("v0.1", "v0.2"):
        left(tmp_path / name, Report({"seeded": [COMPLETE]}))
    folders = [str(tmp_path / name) for name in ("v0.1", "v0.2")]
    assert main(["report", *folders, "--report", str(tmp_path / "both")]) == 0
    written = json.loads((tmp_path / "both" / "report.json").read_text("utf-8"))
    assert list(written["modes"]) == ["seeded (v0.1)", "seeded (v0.2)"]


def test_no_report_is_written_over_one_that_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = left(tmp_path / "report", Report({"seeded": [COMPLETE]}))
    before = path.read_bytes()
    assert main(["report", str(path), "--report", str(tmp_path / "report")]) == 1
    assert "choose another folder with --report" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_a_file_that_is_no_report_or_given_twice_is_an_error_of_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "old.json"
    path.write_text('{"modes": {}}')
    assert main(["report", str(path), "--report", str(tmp_path / "new")]) == 1
    assert "before schemas" in capsys.readouterr().err
    good = left(tmp_path / "good", Report({"seeded": [COMPLETE]}))
    for again in (good, good.parent):
        assert main(["report", str(good), str(again), "--report", str(tmp_path / "new")]) == 1
        assert "given twice" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
