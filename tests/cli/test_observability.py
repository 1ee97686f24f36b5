"""docs/observability.md lists what the code has: `python -m smpcfl.cli.observability` writes its tables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from smpcfl.base.log_events import LogEvent
from smpcfl.cli import observability
from smpcfl.cli.status_view import RosterRow, Status

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/observability.md"
ALERTS = ROOT / "prometheus/alerts.yml"
TEXT = PAGE.read_text(encoding="utf-8")
DO = "run `python -m smpcfl.cli.observability docs/observability.md`"


def rows(title: str) -> list[list[str]]:
    """Of the first table below this heading, without its head."""
    below = TEXT.partition(f"\n## {title}\n")[2].partition("\n\n|")[2]
    lines = below.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def quoted(text: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", text))


def test_the_page_lists_metrics_events_and_fields_as_they_are_declared() -> None:
    assert observability.filled(TEXT) == TEXT, DO
    for name in ("smpcfl_model_accuracy", *LogEvent, "traceback"):
        assert f"\n| `{name}` | " in TEXT


def test_what_is_declared_anew_changes_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LogEvent.ROUND_VOID, "meaning", "another one")
    monkeypatch.setitem(observability.log.MEMBERS, "new", "a member")
    monkeypatch.setitem(observability._VALUES, "version", "another text")
    for name in ("events", "fields", "metrics"):
        block = f"<!-- observability:{name}:begin -->\n<!-- observability:{name}:end -->"
        assert observability.filled(block).splitlines()[1] in TEXT
        assert observability.filled(block) not in TEXT


def test_each_metric_is_shown_by_the_services_that_write_it() -> None:
    found = observability.shown_by()
    assert all(found.values()), found
    assert found["build_info"] == found["rejected"] == ("registry", "peer", "aggregator")
    assert found["model_accuracy"] == found["contributors"] == ("aggregator",)
    assert found["roster_peers"] == ("registry",)
    assert found["deadline"] == ("peer",)


def test_a_file_of_several_services_has_to_be_told_to_the_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(observability._SHARED, "net/mdns.py")
    with pytest.raises(ValueError, match=r"net/mdns\.py writes \['peers_discovered'\]"):
        observability.shown_by()


def test_pages_are_written_in_place(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "a\n<!-- observability:events:begin -->\n<!-- observability:events:end -->\nb\n"
    )
    observability.main([str(page)])
    lines = page.read_text().splitlines()
    assert (lines[0], lines[-1], len(lines)) == ("a", "b", 6 + len(LogEvent))


# -- what a person wrote ------------------------------------------------------------------------------------


def test_what_to_look_at_names_events_and_all_alerts() -> None:
    table = rows("What to look at when")
    assert len(table) > 10
    named = [quoted(cell) for _, _, _, cell, _ in table]
    assert set().union(*named) <= {*LogEvent}
    alerts = set().union(*(quoted(alert) for _, _, alert, _, _ in table))
    assert alerts == set(re.findall(r"- alert: (\w+)", ALERTS.read_text()))


def test_the_status_has_these_members() -> None:
    named = set().union(*(quoted(row[0]) for row in rows("Status")))
    row = RosterRow("a", "a:1", 0, by_mdns=True, fingerprint="f")
    shown = Status("peer", "a", "r:1", (row,), None, "", "no round yet").to_members()
    assert named == shown.keys() | shown["roster"][0].keys()
