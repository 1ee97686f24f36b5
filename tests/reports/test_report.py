"""The record of a round, its log line, and the report that compares the modes."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from smpcfl.reports import comparison, html
from smpcfl.reports.record import RoundRecord, line

COMPLETE = RoundRecord(
    run=7,
    round=3,
    mode="seeded",
    outcome="complete",
    cohort=8,
    survivors=8,
    contributors=8,
    withstood=2,
    dropouts=0,
    accuracy=0.9134,
    loss=0.3012,
    train_loss=0.25,
    bytes_up=204_600.0,
    bytes_down=409_000.0,
    bytes_p2p=5_900.0,
    seconds=6.08,
    phase_seconds={"exchange": 1.5, "upload": 3.0},
)
VOID = replace(COMPLETE, round=4, outcome="void", reason="too few answers", survivors=5, dropouts=3)


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


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.96, "1.0 kB"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (1.632e6, "1.6 MB"),
        (3e9, "3.0 GB"),
        (5e15, "5000.0 TB"),
    ],
)
def test_byte_size(count: float, text: str) -> None:
    assert html.byte_size(count) == text


def three_modes() -> dict[str, list[RoundRecord]]:
    """Two rounds of each mode; the second additive one is void and was not evaluated."""
    normal = replace(COMPLETE, mode="normal", accuracy=0.92, bytes_up=400e3, bytes_p2p=0.0)
    additive = replace(COMPLETE, mode="additive", bytes_p2p=1.6e6, accuracy=0.9)
    return {
        "normal": [replace(normal, round=1, accuracy=0.8, seconds=2.0), replace(normal, seconds=4)],
        "additive": [additive, replace(VOID, mode="additive", accuracy=None, loss=float("nan"))],
        "seeded": [replace(COMPLETE, bytes_up=100e3), replace(COMPLETE, bytes_up=300e3)],
    }


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


class Elements(HTMLParser):
    """Collects the start tags and the text, and fails when tags do not nest."""

    VOID_TAGS = frozenset({"meta"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID_TAGS:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def html_of(modes: dict[str, list[RoundRecord]], meta: dict[str, Any], folder: Path) -> str:
    return comparison.write(folder, modes, meta)[1].read_text("utf-8")


def test_report_html_needs_nothing_else_and_names_its_charts(tmp_path: Path) -> None:
    html = html_of(three_modes(), {"peers": 8}, tmp_path)
    elements = Elements(html)
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in elements.found}
    assert not {"src", "href", "srcset"} & {name for _, attrs in elements.found for name in attrs}
    assert not re.search(r"url\(|@import|https?:", html)
    ids = [attrs["id"] for _, attrs in elements.found if "id" in attrs]
    assert len(ids) == len(set(ids))
    charts = [attrs for _, attrs in elements.found if attrs.get("role") == "img"]
    assert len(charts) == 3
    for _, attrs in elements.found:
        assert set((attrs.get("aria-labelledby") or "").split()) <= set(ids)
    assert all(chart["aria-labelledby"] for chart in charts)
    assert "prefers-color-scheme:dark" in html
    for text in ("0.913 (-0.007)", "200.0 kB (x0.50)", "8"):
        assert text in elements.texts


def test_whatever_is_inserted_is_escaped(tmp_path: Path) -> None:
    evil = "</title><script>alert('1')</script>\"&"
    modes = {evil: three_modes()["additive"], "normal": three_modes()["normal"]}
    html = html_of(modes, {evil: evil, "nested": {"deep": [evil]}}, tmp_path)
    elements = Elements(html)
    assert "script" not in {tag for tag, _ in elements.found}
    assert evil in elements.texts
    assert html.count("<title>") == 1 + (1 + 2) + (1 + 2)  # the page, and each known point


def test_a_sentence_wraps_and_a_number_does_not(tmp_path: Path) -> None:
    """Else the columns beside "who learns what" are out of sight."""
    modes = three_modes()
    html = html_of(modes, {}, tmp_path)
    cells = re.findall(r"<td([^>]*)>([^<]+)</td>", html)
    wrapping = {text for attributes, text in cells if attributes == ' class="prose"'}
    sentences = set(dict(comparison.comparison(modes)[1])["who learns what"])
    assert all(len(text.split()) > 5 for text in sentences)
    assert wrapping == sentences
    assert "td.prose{white-space:normal" in html


def test_facts_are_written_plainly(tmp_path: Path) -> None:
    facts = {
        "final_accuracy": {"normal": [0.91338, 0.9], "seeded": [0.9]},
        "repeat": 2,
        "quick": True,
        "seed": None,
    }
    shown = re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)</dd>", html_of(three_modes(), facts, tmp_path))
    assert shown == [
        ("final accuracy", "normal 0.913, 0.900; seeded 0.900"),
        ("repeat", "2"),
        ("quick", "true"),
        ("seed", "-"),
    ]


def polylines(html: str, chart: str) -> list[list[tuple[float, float]]]:
    """The lines of one chart, as points; the chart must be well-formed XML."""
    svg = re.search(rf'<svg [^>]*aria-labelledby="{chart}-t.*?</svg>', html, re.DOTALL)
    assert svg
    return [
        [
            (float(x), float(y))
            for x, y in (pair.split(",") for pair in line.get("points", "").split())
        ]
        for line in ElementTree.fromstring(svg[0]).iter("polyline")
    ]


def test_a_line_goes_up_with_accuracy_and_breaks_where_nothing_was_evaluated(
    tmp_path: Path,
) -> None:
    values = [0.5, 0.7, None, 0.9, 0.9]
    records = [replace(COMPLETE, accuracy=value) for value in values]
    first, second = polylines(html_of({"seeded": records}, {}, tmp_path), "accuracy")
    assert len(first) == len(second) == 2
    xs = [x for x, _ in first + second]
    ys = [y for _, y in first + second]
    assert xs[1] - xs[0] == pytest.approx((xs[2] - xs[1]) / 2, abs=0.2)
    assert ys[0] > ys[1] > ys[2] == ys[3]
    assert ys[0] - ys[1] == pytest.approx(ys[1] - ys[2], abs=0.2)


def test_a_void_round_is_told_apart(tmp_path: Path) -> None:
    modes = {"seeded": [COMPLETE, VOID]}
    html = html_of(modes, {}, tmp_path)
    assert html.count('class="dot hollow"') == 2  # one in each line chart
    assert "round 2: 0.913 (void)" in html
    assert "hollow: void round" in html
    assert "hollow: void round" not in html_of({"seeded": [COMPLETE]}, {}, tmp_path)


@pytest.mark.parametrize(
    "records",
    [
        [],
        [COMPLETE],
        [replace(COMPLETE, accuracy=None, loss=None, bytes_up=0.0, bytes_p2p=0.0, bytes_down=0.0)],
        [replace(COMPLETE, loss=value) for value in (0.0, 1e-9, 2.3, 1e9)],
        [replace(COMPLETE, round=number) for number in range(1, 201)],
    ],
    ids=["no rounds", "one round", "nothing known", "wide range", "many rounds"],
)
def test_any_history_can_be_shown(records: list[RoundRecord], tmp_path: Path) -> None:
    html = html_of({"seeded": records}, {}, tmp_path)
    Elements(html)
    assert "nan" not in html.lower()


@pytest.mark.parametrize(
    ("low", "high"), [(0.86, 0.943), (0.9, 0.9), (0.0, 0.0), (-3.0, 7.0), (1e-9, 1e9), (0.5, 1.0)]
)
def test_ticks_enclose_the_values_in_even_steps(low: float, high: float) -> None:
    ticks = html._ticks(low, high)
    assert 2 <= len(ticks) <= 7
    assert ticks[0] <= low + 1e-9
    assert ticks[-1] >= high - 1e-9
    steps = [b - a for a, b in pairwise(ticks)]
    assert steps == pytest.approx([steps[0]] * len(steps))
    assert steps[0] > 0
