"""The report as a page: whole, escaped, and with the charts that its numbers make."""

import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from smpcfl.reports import charts, comparison
from smpcfl.reports.pictures import SUM, UPDATE, UPLOAD, Picture
from smpcfl.reports.record import RoundRecord
from smpcfl.reports.report import Report
from smpcfl.reports.report_page import page
from support.reported import COMPLETE, GROUPED, VOID, three_modes


class Elements(HTMLParser):
    """Collects the start tags and the text, and fails when tags do not nest."""

    VOID_TAGS = frozenset({"meta", "img"})

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


def html_of(
    modes: dict[str, list[RoundRecord]],
    meta: dict[str, Any] | None = None,
    pictures: dict[str, list[Picture]] | None = None,
) -> str:
    return page(Report(modes, meta or {}, pictures or {}))


def test_report_html_needs_nothing_else_and_names_its_charts() -> None:
    html = html_of(three_modes(), {"peers": 8})
    elements = Elements(html)
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in elements.found}
    assert not {"src", "href", "srcset"} & {name for _, attrs in elements.found for name in attrs}
    assert not re.search(r"url\(|@import|https?:", html)
    ids = [attrs["id"] for _, attrs in elements.found if "id" in attrs]
    assert len(ids) == len(set(ids))
    charts = [attrs for _, attrs in elements.found if attrs.get("role") == "img"]
    assert len(charts) == 4
    for _, attrs in elements.found:
        assert set((attrs.get("aria-labelledby") or "").split()) <= set(ids)
    assert all(chart["aria-labelledby"] for chart in charts)
    assert "prefers-color-scheme:dark" in html
    for text in ("0.7 points", "x0.51", "+3.1 s", "0.913 (-0.007)", "200.0 kB (x0.50)", "8"):
        assert text in elements.texts


def test_whatever_is_inserted_is_escaped() -> None:
    evil = "</title><script>alert('1')</script>\"&"
    modes = {evil: three_modes()["additive"], "normal": three_modes()["normal"]}
    html = html_of(modes, {evil: evil, "nested": {"deep": [evil]}})
    elements = Elements(html)
    assert "script" not in {tag for tag, _ in elements.found}
    assert evil in elements.texts
    lines, bars = (1 + 2) + (1 + 1), (1 + 2 + 3) + (1 + 3 + 1)
    # The page, each chart, each known point, and each part of a bar.
    assert html.count("<title>") == 1 + lines + bars


def test_a_sentence_wraps_and_a_number_does_not() -> None:
    """Else the columns beside "who learns what" are out of sight."""
    modes = three_modes()
    html = html_of(modes, {})
    cells = re.findall(r"<td([^>]*)>([^<]+)</td>", html)
    wrapping = {text for attributes, text in cells if attributes == ' class="prose"'}
    sentences = set(dict(comparison.comparison(modes)[1])["who learns what"])
    assert all(len(text.split()) > 4 for text in sentences)
    assert wrapping == sentences
    assert "td.prose{white-space:normal" in html


def test_facts_are_written_plainly() -> None:
    facts = {
        "final_accuracy": {"normal": [0.91338, 0.9], "seeded": [0.9]},
        "repeat": 2,
        "quick": True,
        "seed": None,
    }
    shown = re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)</dd>", html_of(three_modes(), facts))
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


def test_a_line_goes_up_with_accuracy_and_breaks_where_nothing_was_evaluated() -> None:
    values = [0.5, 0.7, None, 0.9, 0.9]
    records = [replace(COMPLETE, accuracy=value) for value in values]
    first, second = polylines(html_of({"seeded": records}, {}), "accuracy")
    assert len(first) == len(second) == 2
    xs = [x for x, _ in first + second]
    ys = [y for _, y in first + second]
    assert xs[1] - xs[0] == pytest.approx((xs[2] - xs[1]) / 2, abs=0.2)
    assert ys[0] > ys[1] > ys[2] == ys[3]
    assert ys[0] - ys[1] == pytest.approx(ys[1] - ys[2], abs=0.2)


def test_a_void_round_is_told_apart() -> None:
    modes = {"seeded": [COMPLETE, VOID]}
    html = html_of(modes, {})
    assert html.count('class="dot hollow"') == 2  # one in each line chart
    assert "round 4: 0.913 (void)" in html
    assert "hollow: void round" in html
    assert "hollow: void round" not in html_of({"seeded": [COMPLETE]}, {})


@pytest.mark.parametrize(
    "records",
    [
        [],
        [COMPLETE],
        [replace(COMPLETE, accuracy=None, loss=None, bytes_up=0.0, bytes_p2p=0.0, bytes_down=0.0)],
        [replace(COMPLETE, loss=value) for value in (0.0, 1e-9, 2.3, 1e9)],
        [replace(COMPLETE, loss=value) for value in (math.nan, 1.0, math.inf)],
        [replace(COMPLETE, round=number) for number in range(1, 201)],
    ],
    ids=["no rounds", "one round", "nothing known", "wide range", "no numbers", "many rounds"],
)
def test_any_history_can_be_shown(records: list[RoundRecord]) -> None:
    html = html_of({"seeded": records}, {})
    Elements(html)
    assert "nan" not in html.lower()


@pytest.mark.parametrize(
    ("low", "high"), [(0.86, 0.943), (0.9, 0.9), (0.0, 0.0), (-3.0, 7.0), (1e-9, 1e9), (0.5, 1.0)]
)
def test_ticks_enclose_the_values_in_even_steps(low: float, high: float) -> None:
    ticks = charts._ticks(low, high)
    assert 2 <= len(ticks) <= 7
    assert ticks[0] <= low + 1e-9
    assert ticks[-1] >= high - 1e-9
    steps = [b - a for a, b in pairwise(ticks)]
    assert steps == pytest.approx([steps[0]] * len(steps))
    assert steps[0] > 0


def test_groups_and_suspects_are_shown_with_the_rounds() -> None:
    named = replace(GROUPED, suspected={"<peer>": ((1, 2),)})
    html = html_of({"seeded": [COMPLETE, named]}, {})
    texts = Elements(html).texts
    assert "1/2" in texts
    assert (
        "Suspected: <peer>, whose groups ended void while others completed: round 2 of run 1"
        in texts
    )
    assert "Suspected" not in html_of(three_modes(), {})


def test_what_the_aggregator_sees_is_shown_beside_what_was_sent_in_the_clear() -> None:
    rows = np.random.default_rng(1).normal(size=(2, 64))
    pictures = {
        "normal": [Picture.of(UPDATE, "peer-0", 1, "<w>", rows)],
        "seeded": [
            Picture.of(UPLOAD, "peer-0", 1, "<w>", (rows * 1000).astype(np.uint16)),
            Picture.of(SUM, "", 1, "<w>", rows),
        ],
    }
    elements = Elements(html_of(three_modes(), {}, pictures))
    images = [attrs for tag, attrs in elements.found if tag == "img"]
    assert len(images) == 6
    assert all((image["src"] or "").startswith("data:image/png;base64,iVBOR") for image in images)
    assert [image["alt"] for image in images][:3] == [
        "changes of weights, row 0 of <w>",
        "changes of weights, row 1 of <w>",
        "noise, row 0 of <w>",
    ]
    captions = [text for text in elements.texts if "(normal)" in text or "(seeded)" in text]
    assert captions == [
        "What peer-0 sent in the clear (normal)",
        "What the aggregator sees of peer-0 (seeded)",
        "What it gets: the sum of the survivors (seeded)",
    ]


def test_flowers_own_share_is_taken_off_the_training() -> None:
    record = replace(
        COMPLETE,
        seconds=10.0,
        phase_seconds={"train": 8.0, "unmask": 1.0},
        flower_seconds=5.0,
    )
    html = html_of({"seeded": [record]})
    shown = dict(re.findall(r"<title>seeded, ([^:<]*): ([^<]*)</title>", html))
    assert {name: shown[name] for name in ("Flower’s own", "train", "unmask", "other")} == {
        "Flower’s own": "5.0 s",
        "train": "3.0 s",
        "unmask": "1.0 s",
        "other": "1.0 s",
    }


def test_the_channels_of_a_bar_are_what_a_peer_sent_and_got() -> None:
    record = replace(COMPLETE, unmask_up=600.0, unmask_down=400.0)
    html = html_of({"seeded": [record]})
    for text in ("update, up: 204.0 kB", "model, down: 408.6 kB", "unmask: 1.0 kB"):
        assert f"<title>seeded, {text}</title>" in html


def test_who_was_lost_is_named_with_what_it_cost() -> None:
    lost = replace(COMPLETE, dropouts=1, survivors=7, lost={"<peer>": "no reply"}, seconds=9.0)
    texts = Elements(html_of({"seeded": [COMPLETE, COMPLETE, lost]})).texts
    assert "<peer>: no reply" in texts
    assert any("1 of 3 rounds lost a peer, 0 ended void" in text for text in texts)
    assert any("such a round took 2.9 s more" in text for text in texts)
    assert any("Nobody:" in text for text in Elements(html_of({"seeded": [COMPLETE]})).texts)


def test_a_mode_has_one_colour_and_mark_wherever_it_stands() -> None:
    three = three_modes()
    assert charts.styles(three) == {"normal": 0, "additive": 1, "seeded": 2}
    seeded = three["seeded"]
    assert charts.styles({"seeded": seeded}) == {"seeded": 2}
    assert charts.styles({"seeded (a)": seeded, "seeded (b)": seeded}) == {
        "seeded (a)": 2,
        "seeded (b)": 3,
    }


def test_how_to_repeat_it_stands_below() -> None:
    html = html_of(three_modes(), {"command": "smpcfl compare --peers 5 --app '<x>'", "peers": 5})
    assert (
        '<pre tabindex="0"><code>smpcfl compare --peers 5 --app &#x27;&lt;x&gt;&#x27;</code></pre>'
        in html
    )
    assert "<dt>command</dt>" not in html
