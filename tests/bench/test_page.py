"""The figures in the pages are those of the committed JSON: `python -m smpcfl.bench.page` writes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from smpcfl.bench import check, page
from smpcfl.bench.cases import CASES, Sizes

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("docs/benchmarks.md", "README.md")


@pytest.mark.parametrize("name", PAGES)
def test_the_page_has_the_committed_figures(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert page.filled(text, json.loads(check.committed(short=False).read_text())) == text
    assert "bench:" in text


def test_other_figures_would_change_the_page() -> None:
    result = json.loads(check.committed(short=False).read_text())
    for side in result["cases"]["client"]["sides"].values():
        side["median"] *= 3
    for name in PAGES:
        text = (ROOT / name).read_text(encoding="utf-8")
        assert page.filled(text, result) != text


def test_the_page_says_what_each_case_is() -> None:
    text = (ROOT / "docs/benchmarks.md").read_text(encoding="utf-8")
    for name in CASES:
        assert text.count(f"**`{name}`**") == 1


def test_the_committed_figures_are_of_the_whole_work_and_all_cases() -> None:
    cases = json.loads(check.committed(short=False).read_text())["cases"]
    assert list(cases) == list(CASES)
    assert f"{Sizes().words:,} words" in cases["masks"]["work"]
    assert f"{Sizes().parameters:,} parameters" in cases["server"]["work"]


def test_pages_are_written_in_place(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    file.write_text("before\n<!-- bench:peers:begin -->\nold\n<!-- bench:peers:end -->\nafter\n")
    page.main([str(file)])
    first, _, said, _, last = file.read_text().splitlines()
    assert (first, last) == ("before", "after")
    assert said.startswith("What a peer sends to the others in a round: ")
