"""The report that compares the modes."""

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from smpcfl.reports import comparison
from support.reported import COMPLETE, GROUPED, three_modes


def test_modes_are_compared_with_normal() -> None:
    names, rows = comparison.comparison(three_modes())
    assert names == ["normal", "additive", "seeded"]
    cells = dict(rows)
    assert cells["final accuracy"] == ["0.920", "0.900 (-0.020)", "0.913 (-0.007)"]
    assert cells["bytes up"] == ["400.0 kB", "204.6 kB (x0.51)", "200.0 kB (x0.50)"]
    assert cells["bytes peer to peer"] == ["0 B", "803.0 kB", "5.9 kB"]
    assert cells["seconds per round"] == ["3.00 s", "6.08 s (x2.03)", "6.08 s (x2.03)"]
    assert cells["complete rounds"] == ["2", "1", "2"]
    assert cells["void rounds"] == ["0", "1", "0"]
    assert cells["dropouts per round"] == ["0.00", "1.50", "0.00"]


def test_without_normal_nothing_is_relative_and_without_rounds_nothing_is_known() -> None:
    _, rows = comparison.comparison({"seeded": [COMPLETE], "additive": []})
    assert not any("(" in cell for _, cells in rows for cell in cells)
    assert dict(rows)["final accuracy"] == ["0.913", "-"]
    assert dict(rows)["bytes up"] == ["204.6 kB", "-"]


def test_the_terminal_table_takes_names_literally() -> None:
    output = StringIO()
    Console(file=output, width=120).print(comparison.table({"[red]seeded": [COMPLETE]}))
    assert "[red]seeded" in output.getvalue()
    assert "204.6 kB" in output.getvalue()


def test_report_json_has_a_list_for_each_number_with_an_entry_for_each_round(
    tmp_path: Path,
) -> None:
    json_path, _ = comparison.write(tmp_path / "new" / "place", three_modes(), {"peers": 8})
    assert json_path == tmp_path / "new" / "place" / "report.json"
    written = json.loads(json_path.read_text("utf-8"))
    assert written["meta"] == {"peers": 8}
    assert list(written["modes"]) == ["normal", "additive", "seeded"]
    assert written["modes"]["additive"] == {
        "accuracy": [0.9, None],
        "loss": [0.3012, None],
        "bytes_up": [204_600.0, 204_600.0],
        "bytes_down": [409_000.0, 409_000.0],
        "bytes_p2p": [1.6e6, 5_900.0],
        "round_seconds": [6.08, 6.08],
        "survivors": [8, 5],
        "contributors": [8, 8],
        "withstood": [2, 2],
        "dropouts": [0, 3],
        "outcome": ["complete", "void"],
        "draw": [0, 0],
        "groups": [[], []],
        "suspected": [{}, {}],
    }


def test_groups_are_counted_over_all_rounds_and_listed_in_report_json(tmp_path: Path) -> None:
    modes = {"normal": [replace(COMPLETE, mode="normal")], "seeded": [GROUPED, GROUPED]}
    rows = dict(comparison.comparison(modes)[1])
    assert rows["groups complete"] == ["-", "2 of 4"]
    assert "groups complete" not in dict(comparison.comparison(three_modes())[1])
    json_path, _ = comparison.write(tmp_path, modes, {})
    written = json.loads(json_path.read_text("utf-8"))["modes"]["seeded"]
    assert written["draw"] == [7, 7]
    assert written["groups"][0][1] == {
        "group": 2,
        "outcome": "void",
        "reason": "too few",
        "cohort": 5,
        "survivors": 0,
    }
    assert written["suspected"][1] == {"peer-a": [[1, 2], [1, 3]]}


def test_a_report_appears_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comparison.write(tmp_path, three_modes(), {"try": 1})
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert {path.name for path in before} == {"report.json", "report.html"}

    def full_disk(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.replace", full_disk)
    with pytest.raises(OSError, match="no space left"):
        comparison.write(tmp_path, three_modes(), {"try": 2})
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
