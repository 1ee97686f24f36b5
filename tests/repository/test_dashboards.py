"""The dashboards as committed: made from grafana/boards, complete, and where alerts and Grafana look."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.dashboards import FOLDER, SCRAPE_S, boards, panels, rows, targets
from support.promql import selectors

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "grafana/build.py"
DATASOURCE = ROOT / "grafana/provisioning/datasources/prometheus.yml"
PROVIDER = ROOT / "grafana/provisioning/dashboards/smpcfl.yml"
COMPOSE, HERE = ROOT / "docker-compose.yml", ROOT / "docker-compose.override.yml"
PROMETHEUS = ROOT / "prometheus/prometheus.yml"
ALERTS = ROOT / "prometheus/alerts.yml"
OPERATIONS = ROOT / "docs/operations.md"

BOARDS = boards()
MODES = {"normal": "#0072b2", "additive": "#d55e00", "seeded": "#00805e"}
UNITS = {"none", "percentunit", "s", "decbytes", "Bps", "reqps", "suffix: ×"}


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def every_panel() -> list[Any]:
    return [
        pytest.param(panel, id=f"{uid}-{panel['id']}")
        for uid, board in BOARDS.items()
        for panel in panels(board)
    ]


def rules() -> list[Any]:
    return [rule for group in load(ALERTS)["groups"] for rule in group["rules"]]


@pytest.mark.commands
def test_the_files_are_what_the_boards_make() -> None:
    done = subprocess.run(
        [sys.executable, str(BUILD), "--check"], capture_output=True, text=True, check=False
    )
    assert not done.returncode, done.stdout + done.stderr


@pytest.mark.commands
def test_a_file_changed_by_hand_is_found(tmp_path: Path) -> None:
    copy = tmp_path / "grafana"
    for path in (ROOT / "grafana").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            (copy / path.relative_to(ROOT / "grafana")).parent.mkdir(parents=True, exist_ok=True)
            (copy / path.relative_to(ROOT / "grafana")).write_bytes(path.read_bytes())
    home = copy / "dashboards/home.json"
    home.write_text(home.read_text().replace('"now-15m"', '"now-1h"'))
    (copy / "dashboards/more.json").write_text("{}")

    def build(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(copy / "build.py"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    found = build("--check")
    assert found.returncode == 1
    assert "home.json is not what boards/ makes" in found.stdout
    assert "more.json is made by nothing" in found.stdout
    assert not build().returncode
    assert home.read_text() == (FOLDER / "home.json").read_text()


def test_three_boards_with_links_to_each_other() -> None:
    assert BOARDS.keys() == {"smpcfl", "smpcfl-modes", "smpcfl-peer"}
    for uid, board in BOARDS.items():
        others = {link["url"].removeprefix("/d/"): link for link in board["links"]}
        assert others.keys() == BOARDS.keys() - {uid}
        assert all(link["title"] == BOARDS[other]["title"] for other, link in others.items())
        assert all(link["keepTime"] for link in others.values())


def test_panels_stand_in_rows_and_ids_are_unique() -> None:
    for board in BOARDS.values():
        assert board["panels"][0]["type"] == "row"
        numbers = [part["id"] for part in (*rows(board), *panels(board))]
        assert len(set(numbers)) == len(numbers)
        for row in rows(board):
            assert row["title"]
            assert bool(row["panels"]) == row["collapsed"], "only a folded row holds its panels"


def test_no_panel_lies_over_another() -> None:
    for uid, board in BOARDS.items():
        taken: set[tuple[int, int]] = set()
        for part in (*rows(board), *panels(board)):
            place = part["gridPos"]
            assert place["x"] + place["w"] <= 24
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not cells & taken, (uid, part["title"])
            taken |= cells


@pytest.mark.parametrize("panel", every_panel())
def test_a_panel_says_what_it_shows_in_which_unit_and_why_it_is_empty(panel: Any) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    assert panel["title"]
    assert len(panel["description"]) > 20
    assert panel["description"].endswith(".")
    assert defaults["unit"] in UNITS
    assert len(defaults["noValue"]) > 10
    assert panel["targets"]
    for target in panel["targets"]:
        assert target["legendFormat"]
        assert target["instant"] != target["range"]


def test_a_mode_has_the_colour_of_the_report_everywhere() -> None:
    style = (ROOT / "services/smpcfl/reports/report_page.css").read_text("utf-8")
    for number, colour in enumerate(MODES.values()):
        assert f"--c{number}:{colour}" in style
    seen = set()
    for board in BOARDS.values():
        for panel in panels(board):
            for names, colour in colours(panel):
                mode = next((mode for mode in MODES if mode in names), None)
                assert (colour == MODES[mode]) if mode else (colour not in MODES.values()), names
                seen.add(mode)
    assert seen > MODES.keys()


def colours(panel: Any) -> Iterator[tuple[str, str]]:
    """What a colour is fixed for, and the colour."""
    for override in panel["fieldConfig"]["overrides"]:
        for item in override["properties"]:
            if item["id"] == "color":
                yield override["matcher"]["options"], item["value"]["fixedColor"]


def test_every_line_that_has_a_mode_for_a_name_has_its_colour() -> None:
    """By the legend, as Grafana matches it: `seeded: mean` is painted by `/^seeded\\b/`."""
    for board in BOARDS.values():
        for panel in panels(board):
            for target in panel["targets"]:
                if not target["legendFormat"].startswith("{{mode}}") or panel["type"] == "stat":
                    continue
                for mode, colour in MODES.items():
                    legend = target["legendFormat"].replace("{{mode}}", mode)
                    found = [
                        c for names, c in colours(panel) if re.search(names.strip("/"), legend)
                    ]
                    assert found[-1:] == [colour], (panel["title"], legend)


def test_grafana_provisioning() -> None:
    (source,) = load(DATASOURCE)["datasources"]
    (provider,) = load(PROVIDER)["providers"]
    grafana = load(COMPOSE)["services"]["grafana"]
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert str(home.parent) == provider["options"]["path"]
    mounted = load(HERE)["services"]["grafana"]["volumes"]
    assert f"./grafana/dashboards:{home.parent}:ro" in mounted
    assert (FOLDER / home.name).is_file()
    assert f'"uid": "{min(BOARDS)}"' in (FOLDER / home.name).read_text()
    assert source["jsonData"]["timeInterval"] == f"{SCRAPE_S}s"
    assert load(PROMETHEUS)["global"]["scrape_interval"] == f"{SCRAPE_S}s"
    for board in BOARDS.values():
        assert not board["editable"]
        for part in [*panels(board), *board["templating"]["list"]]:
            assert part["datasource"] == {"type": "prometheus", "uid": source["uid"]}
        used = set(re.findall(r"\$(\w+)", "".join(t.expr for t in targets(board))))
        own = {variable["name"] for variable in board["templating"]["list"]}
        assert own <= used <= own | {"__rate_interval", "__range", "__interval"}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_leads_to_a_panel_and_to_a_section(rule: Any) -> None:
    notes = rule["annotations"]
    match = re.fullmatch(r"/d/([\w-]+)\?viewPanel=panel-(\d+)", notes["dashboard"])
    assert match, notes["dashboard"]
    board = BOARDS[match[1]]
    # In a row that is not folded: those have their panels inside.
    shown = [p for p in board["panels"] if p["id"] == int(match[2]) and p["type"] != "row"]
    assert len(shown) == 1, notes["dashboard"]
    asked = " ".join(target["expr"] for target in shown[0]["targets"])
    assert metrics_of(rule["expr"]) & metrics_of(asked), "the panel shows what the alert is about"
    assert notes["runbook"].partition("#")[2] in anchors()


def metrics_of(query: str) -> set[str]:
    """Void rounds are counted once more with their reasons, which is what one wants to see."""
    return {name.replace("void_rounds", "rounds") for name, _ in selectors(query)}


def anchors() -> set[str]:
    text = OPERATIONS.read_text()
    headings = re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE)
    found = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}
    return found | set(re.findall(r'<a (?:id|name)="([^"]+)"', text))


def test_the_board_of_alerts_knows_the_alerts_about_one_service() -> None:
    """Of a peer's `ALERTS`, which it may make up, the board takes only those: see boards/trouble.py."""
    (panel,) = (p for p in panels(BOARDS["smpcfl"]) if p["title"] == "Alerts that fire")
    (named,) = re.findall(r'alertname=~"([\w|]+)"', panel["targets"][0]["expr"])
    about = {rule["alert"] for rule in rules() if re.search(r'job=~"[^"]*\bpeer\b', rule["expr"])}
    assert set(named.split("|")) == about
