"""The report as a page: whole, escaped, and with the charts that its numbers make."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from smpcfl.reports import comparison, html
from smpcfl.reports.record import RoundRecord
from support.reported import COMPLETE, GROUPED, VOID, three_modes


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


def test_groups_and_suspects_are_shown_with_the_rounds(tmp_path: Path) -> None:
    named = replace(GROUPED, suspected={"<peer>": ((1, 2),)})
    html = html_of({"seeded": [COMPLETE, named]}, {}, tmp_path)
    texts = Elements(html).texts
    assert "1/2" in texts
    assert (
        "Suspected: <peer>, whose groups ended void while others completed: round 2 of run 1"
        in texts
    )
    assert "Suspected" not in html_of(three_modes(), {}, tmp_path)
