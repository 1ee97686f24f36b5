"""`smpcfl compare` with its live page in a real browser: what it showed is what report.json has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from smpcfl.reports import report
from smpcfl.reports.units import byte_size
from support.browser import browser_missing, opened
from support.compare_command import Compare
from support.light_app import light_app

PEERS, ROUNDS = 5, 2  # as many rounds as the app declares

pytestmark = [
    pytest.mark.processes,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(browser_missing()), reason=f"no browser: {browser_missing()}"),
]


def test_the_live_page_shows_what_the_report_has(tmp_path: Path) -> None:
    app = light_app(tmp_path / "app", ROUNDS)
    arguments = ("--app", str(app), "--modes", "normal,seeded", "--peers", str(PEERS))
    with Compare(tmp_path / "report", *arguments) as compare:
        with opened() as seen:
            seen.page.goto(compare.url())
            shown = watch(seen.page)
            final = last(seen.page)
            assert seen.said == []
        compare.ended()
    modes = report.load(tmp_path / "report").modes
    assert list(modes) == ["normal", "seeded"]
    names = [re.sub(r"-[0-9a-f]{4}$", "", name) for name in final["peers"]]
    assert names == [f"peer-{number}" for number in range(PEERS)]
    assert set(final["found by"]) <= {"mDNS and registry", "registry"}
    # Each round was shown with its phases, in their order; a short one may pass between two looks.
    walked = ["exchange and train", "upload", "agree and unmask", "sum"]
    for number in range(1, ROUNDS + 1):
        phases = [phase for mode, round_, phase in shown if (mode, round_) == ("seeded", number)]
        assert phases == [phase for phase in walked if phase in phases]
        assert "exchange and train" in phases
    # The numbers of all rounds, as the page has them.
    assert [row[0] for row in final["rounds"]["seeded"]] == [str(n) for n in range(1, ROUNDS + 1)]
    for mode, records in modes.items():
        for row, record in zip(final["rounds"][mode], records, strict=True):
            assert row[1:3] == [record.outcome, str(record.survivors)]
            sizes = [record.bytes_up, record.bytes_down, record.bytes_p2p]
            assert row[8:11] == [byte_size(size) for size in sizes]
    # What the agents counted is what the report has, and what came after the last peer had answered.
    sent = sum(record.bytes_p2p for record in modes["seeded"]) * PEERS
    assert 0.9 * sent <= final["p2p"] <= 2 * sent  # each is shown to two digits
    assert final["p2p pairs"] == PEERS * (PEERS - 1)
    printed = "".join(compare.printed)
    assert max(len(line.rstrip("\n")) for line in compare.printed if line.startswith("round")) <= 80
    assert printed.count("round 1/") == 2


def watch(page: Any) -> list[tuple[str, int, str]]:
    """Mode, round and phase, each as it was first seen, until the page says that it is over."""
    found: list[tuple[str, int, str]] = []
    while page.evaluate("document.documentElement.dataset.ended") is None:
        heading, phase = page.evaluate(
            """() => [document.querySelector('#live h2').textContent,
                      document.querySelector('.phases .now')?.firstChild.textContent ?? '']"""
        )
        if where := re.match(r"Live: (\w+), round (\d+)", heading):
            now = where[1], int(where[2]), phase.partition(" 0")[0].strip()
            now = now[0], now[1], re.sub(r" \d+/\d+$", "", now[2])
            if now[2] and now not in found:
                found.append(now)
        if where and where[1] == "seeded":
            page.evaluate("window.kept = document.querySelector('#live').innerHTML")
        page.wait_for_timeout(100)
    return found


def last(page: Any) -> dict[str, Any]:
    """What the page shows at the end, and of the live section what it showed last in mode `seeded`."""
    return dict(
        page.evaluate(
            """() => {
          const cells = (row) => [...row.children].map((cell) => cell.textContent);
          const live = document.createElement('div');
          live.innerHTML = window.kept;
          const rows = (table) => [...table.querySelectorAll('tbody tr')].map(cells);
          const peers = rows(live.querySelector('[aria-label=peers] table'));
          const flows = rows(live.querySelector('[aria-label="bytes from peer to peer"] table'));
          const units = {B: 1, kB: 1e3, MB: 1e6};
          const bytes = (text) => Number(text.split(' ')[0]) * units[text.split(' ')[1]];
          const rounds = {};
          for (const details of document.querySelectorAll('#rounds details')) {
            const mode = details.querySelector('summary').textContent.replace('Data: ', '');
            rounds[mode] = rows(details);
          }
          return {
            peers: peers.map((row) => row[0]),
            'found by': peers.map((row) => row[1]),
            p2p: flows.map((row) => bytes(row[1])).reduce((a, b) => a + b, 0),
            'p2p pairs': flows.length,
            rounds,
          };
        }"""
        )
    )
