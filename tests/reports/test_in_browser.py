"""The report and the live page in a real browser: what it says, asks for, and what axe-core finds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smpcfl.reports.live_runs import LiveRuns
from smpcfl.reports.live_server import LiveServer
from smpcfl.reports.pictures import SUM, UPDATE, UPLOAD, Picture
from smpcfl.reports.record import RoundRecord
from smpcfl.reports.report import Report
from smpcfl.reports.snapshot import LivePeer, Snapshot
from smpcfl.reports.write import write
from support.browser import THEMES, WIDTHS, browser_missing, opened
from support.reported import COMPLETE, GROUPED, VOID, three_modes

# Where it is missing, all tests here are skipped.
expect: Any = None
if not browser_missing():
    from playwright.sync_api import expect

pytestmark = [
    pytest.mark.commands,
    pytest.mark.skipif(bool(browser_missing()), reason=f"no browser: {browser_missing()}"),
]
EVERY = list(product(THEMES, WIDTHS))
NAMES = tuple(f"peer-{n}" for n in range(5))


def whole() -> Report:
    """With everything that a report may have."""
    rows = np.random.default_rng(1).normal(size=(8, 64))
    timed = {"train": 8.0, "unmask": 0.5, "sum": 0.1, "evaluate": 1.0}
    records: list[RoundRecord] = [
        replace(COMPLETE, round=1, phase_seconds=timed, seconds=10.0, flower_seconds=4.0),
        replace(VOID, lost={"peer-1": "no reply", "peer-2": "refused: policy_cohort"}),
        replace(GROUPED, round=5),
    ]
    pictures = {
        "normal": [Picture.of(UPDATE, "peer-0", 1, "hidden.weight", rows)],
        "seeded": [
            Picture.of(UPLOAD, "peer-0", 1, "hidden.weight", (rows * 9999).astype(np.uint16)),
            Picture.of(SUM, "", 1, "hidden.weight", rows),
        ],
    }
    about = {"app": "bundled", "peers": 5, "command": "smpcfl compare " + "--peers 5 " * 20}
    return Report({**three_modes(), "seeded": records}, about, pictures)


SNAPSHOT = Snapshot(
    mode="seeded",
    rounds=5,
    round=2,
    phase="upload",
    since=1.0,
    replies=3,
    cohort=NAMES,
    here=5,
    peers=tuple(LivePeer(name=name, via="mDNS and registry", flower_out=2000) for name in NAMES),
    flows=tuple((a, b, 300) for a in NAMES for b in NAMES if a != b),
    records=tuple(whole().modes["seeded"]),
)


@pytest.mark.parametrize(("theme", "width"), EVERY)
def test_the_report_is_quiet_alone_and_accessible(theme: str, width: int, tmp_path: Path) -> None:
    path = write(tmp_path, whole())[1].as_uri()
    with opened(width, theme) as seen:
        seen.page.goto(path)
        assert seen.violations() == []
        assert seen.too_wide() <= 0
        assert seen.said == []
        assert [url for url in seen.asked if not url.startswith("data:")] == [path]


def test_the_report_has_its_charts_tables_and_pictures(tmp_path: Path) -> None:
    with opened() as seen:
        seen.page.goto(write(tmp_path, whole())[1].as_uri())
        shown = seen.page.locator
        assert shown("#answer .number strong").all_text_contents() == [
            "0.7 points",
            "x0.53",
            "+3.1 s",
        ]
        assert shown("svg[role=img]").count() == 4
        sizes = "images => images.map(image => [image.naturalWidth, image.complete])"
        assert shown("#seen img").evaluate_all(sizes) == [[8, True]] * 24
        assert not shown("#training details table").first.is_visible()
        shown("#training summary").first.click()
        assert shown("#training details table").first.is_visible()


def test_on_paper_all_data_is_there(tmp_path: Path) -> None:
    with opened() as seen:
        seen.page.goto(write(tmp_path, whole())[1].as_uri())
        seen.page.emulate_media(media="print")
        assert seen.page.locator("#training details table").first.is_visible()


@pytest.fixture
def runs() -> LiveRuns:
    return LiveRuns("a note")


@pytest.fixture
def server(runs: LiveRuns) -> Iterator[LiveServer]:
    made = LiveServer(runs.source(), "127.0.0.1", 0)
    yield made
    made.close()


@pytest.mark.parametrize(("theme", "width"), EVERY)
def test_the_live_page_is_quiet_alone_and_accessible(
    theme: str, width: int, runs: LiveRuns, server: LiveServer
) -> None:
    runs.put("seeded", SNAPSHOT)
    with opened(width, theme) as seen:
        seen.page.goto(server.url)
        expect(seen.page.locator("time")).not_to_be_empty()
        assert seen.violations() == []
        assert seen.too_wide() <= 0
        assert seen.said == []
        assert {url for url in seen.asked if not url.startswith("data:")} == {
            server.url,
            f"{server.url}live.js",
            f"{server.url}events",
        }


def test_the_live_page_follows_the_run_to_its_end(runs: LiveRuns, server: LiveServer) -> None:
    with opened() as seen:
        seen.page.goto(server.url)
        heading = seen.page.locator("#live h2")
        assert heading.text_content() == "Live"
        runs.put("seeded", SNAPSHOT)
        expect(heading).to_contain_text("seeded, round 2 of 5")
        assert seen.page.locator(".graph .peer").count() == 5
        seen.page.locator("#rounds summary").first.click()
        seen.page.locator("h1").click()  # and looks elsewhere
        sent = replace(SNAPSHOT, phase="sum", records=(*SNAPSHOT.records, COMPLETE))
        runs.put("seeded", sent)
        expect(seen.page.locator("#rounds tbody tr")).to_have_count(4)
        assert seen.page.locator("#rounds details").first.get_attribute("open") is not None
        assert seen.page.locator(".phases .now").text_content().startswith("sum")
        server.close()
        expect(seen.page.locator("html")).to_have_attribute("data-ended", "true")
        assert seen.said == []
