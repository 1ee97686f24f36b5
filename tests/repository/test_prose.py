"""The prose beside the code: lines that fit a screen, and links that lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("docs", "benchmarks", "examples", "tests", "proto", "docker")
PAGES = sorted(
    {*ROOT.glob("*.md"), *(page for name in FOLDERS for page in (ROOT / name).rglob("*.md"))}
)
LONGEST = 120  # characters
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)(?: \"[^\"]*\")?\)|^\[[^\]]+\]: (\S+)", re.M)
FENCED = re.compile(r"^ *(```|~~~).*?^ *\1", re.M | re.S)
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def too_long(text: str) -> Iterator[int]:
    """Numbers of the lines that are; rows of tables, and lines with an address, cannot be wrapped."""
    for number, line in enumerate(text.splitlines(), start=1):
        if len(line) > LONGEST and not line.lstrip().startswith("|") and "://" not in line:
            yield number


def anchors(text: str) -> set[str]:
    """Of the headings, as GitHub makes them: an equal one gets a number."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.+?)(?: +#+)?$", FENCED.sub("", text), re.M):
        said = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", said.lower()).replace(" ", "-")
        same = sum(
            re.fullmatch(rf"{re.escape(slug)}(-\d+)?", anchor) is not None for anchor in found
        )
        found.add(f"{slug}-{same}" if same else slug)
    return found | set(re.findall(r'<a (?:id|name)="([^"]+)"', text))


def broken(page: Path) -> Iterator[str]:
    """Links of `page` to a file of ours, or a place in one, that is not there."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    for inline, reference in LINK.findall(re.sub(r"`[^`\n]*`", "", text)):
        link = inline or reference
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (
            anchor and anchor not in anchors(target.read_text(encoding="utf-8"))
        ):
            yield link


def test_all_pages_are_looked_at() -> None:
    names = {str(page.relative_to(ROOT)) for page in PAGES}
    assert {"README.md", "CHANGELOG.md", "docs/protocol.md", "benchmarks/README.md"} <= names


@pages
def test_lines_are_no_longer_than_a_screen(page: Path) -> None:
    assert list(too_long(page.read_text(encoding="utf-8"))) == []


@pages
def test_links_lead_to_a_file_and_to_a_heading_in_it(page: Path) -> None:
    assert list(broken(page)) == []


def test_each_picture_is_shown_with_words_for_those_who_do_not_see_it() -> None:
    shown = re.findall(
        r"!\[([^\]]+)\]\(docs/images/(\S+)\)", (ROOT / "README.md").read_text("utf-8")
    )
    assert sorted(name for _, name in shown) == sorted(
        path.name for path in (ROOT / "docs/images").iterdir()
    )
    assert all(len(alt) > 40 for alt, _ in shown)


def test_this_file_would_notice(tmp_path: Path) -> None:
    other = tmp_path / "other.md"
    other.write_text("# A `name`, and more\n\n## Twice\n\n## Twice\n\n```\n# no heading\n```\n")
    good = ("other.md", "other.md#a-name-and-more", "other.md#twice-1", "#own", "https://x/y#z")
    bad = ("gone.md", "other.md#no-heading", "other.md#twice-2", "#other")
    page = tmp_path / "page.md"
    page.write_text("# Own\n" + "\n".join(f"[text]({link})" for link in (*good, *bad)))
    assert list(broken(page)) == list(bad)
    page.write_text("[text][1] and `[code](gone.md)`\n\n[1]: gone2.md\n")
    assert list(broken(page)) == ["gone2.md"]
    long = "word " * 25
    assert list(too_long(f"{long}\n| {long} |\nshort\nhttps://x/{'y' * 120}\n  {long}")) == [1, 5]
