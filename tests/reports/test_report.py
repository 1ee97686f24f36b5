"""report.json: written, read again, and as its schema says."""

import json
import math
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from smpcfl.protocol.errors import LocalError
from smpcfl.reports import report
from smpcfl.reports.pictures import UPLOAD, Picture
from smpcfl.reports.report import Report
from smpcfl.reports.write import write
from support.reported import COMPLETE, GROUPED, VOID, three_modes

SCHEMA = json.loads(files("smpcfl.reports").joinpath("report.schema.json").read_text("utf-8"))
PICTURE = Picture.of(UPLOAD, "peer-0", 1, "w", np.arange(2 * 64, dtype=np.uint16).reshape(2, 64))
LOST = replace(VOID, lost={"peer-b": "no reply"}, flower_seconds=4.5, unmask_up=12.0)
NUMBERS = {
    *("accuracy", "loss", "bytes_up", "bytes_down", "bytes_p2p", "round_seconds", "survivors"),
    *("contributors", "withstood", "dropouts", "outcome", "draw", "groups", "suspected"),
}
WHOLE = Report(
    {"normal": three_modes()["normal"], "seeded": [COMPLETE, GROUPED, LOST]},
    {"peers": 8, "app": "bundled"},
    {"normal": [], "seeded": [PICTURE]},
)


def test_report_json_has_a_list_for_each_number_with_an_entry_for_each_round(
    tmp_path: Path,
) -> None:
    json_path, _ = write(tmp_path / "new" / "place", Report(three_modes(), {"peers": 8}))
    assert json_path == tmp_path / "new" / "place" / "report.json"
    written = json.loads(json_path.read_text("utf-8"))
    assert written["meta"] == {"peers": 8}
    assert list(written["modes"]) == ["normal", "additive", "seeded"]
    assert written["schema"] == 1
    additive = written["modes"]["additive"]
    assert {key: value for key, value in additive.items() if key in NUMBERS} == {
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


def test_groups_and_suspects_are_listed() -> None:
    written = json.loads(Report({"seeded": [GROUPED, GROUPED]}).to_json())["modes"]["seeded"]
    assert written["draw"] == [7, 7]
    assert written["groups"][0][1] == {
        "group": 2,
        "outcome": "void",
        "reason": "too few",
        "cohort": 5,
        "survivors": 0,
    }
    assert written["suspected"][1] == {"peer-a": [[1, 2], [1, 3]]}


def test_a_report_is_as_its_schema_says_and_has_all_of_it() -> None:
    written = json.loads(WHOLE.to_json())
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(written, SCHEMA)
    assert written["modes"]["seeded"].keys() == SCHEMA["$defs"]["mode"]["properties"].keys()


@pytest.mark.parametrize("key", sorted(SCHEMA["$defs"]["mode"]["properties"].keys() - {"pictures"}))
def test_the_schema_takes_no_list_of_something_else(key: str) -> None:
    written = json.loads(WHOLE.to_json())
    written["modes"]["seeded"][key][0] = [None]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(written, SCHEMA)


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    path, _ = write(tmp_path, WHOLE)
    assert report.load(path) == report.load(tmp_path) == WHOLE


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda whole: whole.pop("schema"), "its schema is of before schemas"),
        (lambda whole: whole.update(schema=2), "its schema is 2"),
        (lambda whole: whole.pop("modes"), "no modes"),
        (lambda whole: whole["modes"].update(seeded=3), "'seeded' is no object"),
        (lambda whole: whole["modes"]["seeded"]["loss"].pop(), "one entry a round"),
        (lambda whole: whole["modes"]["seeded"].pop("loss"), "missing key 'loss'"),
        (lambda whole: whole["modes"]["seeded"].update(accuracy=["a"] * 3), "'accuracy' must be"),
        (lambda whole: whole["modes"]["seeded"].update(pictures=[{}]), "a picture has"),
        (lambda whole: whole["modes"]["seeded"].update(pictures=5), "'pictures' is no list"),
        (lambda whole: whole["modes"]["seeded"].update(mode=["lunch"] * 3), "unknown mode 'lunch'"),
        (lambda whole: whole["meta"].update(peers=math.nan), "NaN is no number"),
    ],
)
def test_what_is_no_report_is_refused_by_name(change: Any, why: str, tmp_path: Path) -> None:
    whole = json.loads(WHOLE.to_json())
    change(whole)
    path = tmp_path / "old.json"
    path.write_text(json.dumps(whole))
    with pytest.raises(LocalError, match=why) as error:
        report.load(path)
    assert "old.json" in str(error.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000])
def test_a_file_that_is_no_json_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(LocalError, match=r"is no report\.json"):
        report.load(tmp_path)
    with pytest.raises(LocalError, match="No such file"):
        report.load(tmp_path / "none.json")


def test_runs_of_different_files_stand_side_by_side_under_names_of_their_own() -> None:
    one = Report({"seeded": [COMPLETE], "normal": [COMPLETE]}, {"peers": 5, "flwr": "1.42"})
    two = Report({"seeded": [VOID]}, {"peers": 8, "flwr": "1.42"}, {"seeded": [PICTURE]})
    both = report.side_by_side({"a": one, "b": two})
    assert list(both.modes) == ["seeded (a)", "normal", "seeded (b)"]
    assert both.modes["seeded (b)"] == [VOID]
    assert both.pictures["seeded (b)"] == [PICTURE]
    assert both.meta == {"peers": {"a": 5, "b": 8}, "flwr": "1.42"}


def test_half_a_character_of_a_file_name_is_written_as_what_it_is_not(tmp_path: Path) -> None:
    _, page = write(tmp_path, Report({"seeded": [COMPLETE]}, {"app": "a\udcff"}))
    assert "<dd>a?</dd>" in page.read_text("utf-8")


def test_a_report_appears_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, Report(three_modes(), {"try": 1}))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert {path.name for path in before} == {"report.json", "report.html"}

    def full_disk(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.replace", full_disk)
    with pytest.raises(OSError, match="no space left"):
        write(tmp_path, Report(three_modes(), {"try": 2}))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
