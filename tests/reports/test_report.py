"""The record of a round, its log line, and the report that compares the modes."""

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from smpcfl.reports import comparison
from smpcfl.reports.record import RoundRecord, line
from support.reported import COMPLETE, VOID, three_modes


def with_member(**members: object) -> str:
    return json.dumps(json.loads(COMPLETE.to_json()) | members)


def test_a_record_survives_its_line_of_json() -> None:
    for record in (COMPLETE, VOID, replace(COMPLETE, accuracy=None, loss=None, train_loss=None)):
        text = record.to_json()
        assert "\n" not in text
        assert RoundRecord.from_json(text) == record


def test_a_model_that_diverged_is_still_recorded() -> None:
    diverged = replace(COMPLETE, loss=float("nan"), train_loss=float("inf"))
    assert RoundRecord.from_json(diverged.to_json()) == replace(
        COMPLETE, loss=None, train_loss=None
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("run", "7"),
        ("round", 3.0),
        ("round", True),
        ("mode", None),
        ("outcome", "lost"),
        ("reason", 5),
        ("survivors", -1),
        ("contributors", -1),
        ("withstood", "2"),
        ("accuracy", "0.9"),
        ("loss", False),
        ("bytes_up", None),
        ("bytes_p2p", -1.0),
        ("seconds", 10**400),
        ("phase_seconds", [1.0]),
        ("phase_seconds", {"upload": "1"}),
        ("peers", 8),
    ],
)
def test_a_wrong_member_is_named(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"'{key}'"):
        RoundRecord.from_json(with_member(**{key: value}))


def test_a_missing_member_is_named_and_only_what_has_a_default_may_be_left_out() -> None:
    defaults = {"reason": "", "contributors": 0, "withstood": None}
    members = json.loads(COMPLETE.to_json())
    for key in members:
        text = json.dumps({name: value for name, value in members.items() if name != key})
        if key in defaults:
            assert RoundRecord.from_json(text) == replace(COMPLETE, **{key: defaults[key]})
        else:
            with pytest.raises(ValueError, match=rf"missing key '{key}'"):
                RoundRecord.from_json(text)


@pytest.mark.parametrize("text", ["", "[]", "3", "{"])
def test_what_is_not_a_record_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  the wording of the json module varies
        RoundRecord.from_json(text)


@pytest.mark.parametrize("number", ["1e999", "-Infinity", "NaN"])
def test_a_number_that_is_not_finite_is_named(number: str) -> None:
    with pytest.raises(ValueError, match="'loss'"):
        RoundRecord.from_json(COMPLETE.to_json().replace("0.3012", number))


def test_the_log_line_of_a_round() -> None:
    assert line(COMPLETE, 10) == (
        "round  3/10  seeded    survivors 8/8  accuracy 0.913  loss 0.301"
        "  up 204.6 kB  p2p 5.9 kB  6.1 s"
    )
    assert "survivors 8/8  training failed on 1  acc" in line(replace(COMPLETE, contributors=7))
    assert line(VOID).startswith("round 4  seeded    void: too few answers  survivors 5/8")
    assert "accuracy -  loss -" in line(replace(COMPLETE, accuracy=None, loss=None))


def test_a_reason_cannot_break_the_log() -> None:
    text = line(replace(VOID, reason="peer said:\r\n\x1b[2Jround 5\u2028ok"))
    assert text.isprintable()
    assert "void: peer said: [2Jround 5 ok  " in text


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
    }


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
