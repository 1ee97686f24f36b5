"""Takes the pictures of README.md from real runs: `make screenshots`.

python tests/screenshots.py [report] [dashboard]; needs Chromium (`make browser`), and for the dashboard a
Docker engine. `report` takes the live page too, as both are of one run. The dashboard is drawn from the
answers to its queries, without Grafana. Some minutes each.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from support.browser import browser_missing, opened
from support.compare_command import Compare
from support.compose import engine_missing
from support.dashboards import fetch
from support.drawn_dashboard import WIDTH as BOARD_WIDTH
from support.drawn_dashboard import page as drawn
from support.runs_in_turn import runs_in_turn

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs/images"
WIDTH = 1040  # just wide enough for the live page's graph and table side by side
MODE = "seeded"  # of the round in which the live page is taken
BOARD, UNTIL = "smpcfl", "Trouble"  # in these runs there is none
PEERS, ROUNDS = 5, {"normal": 5, "seeded": 7}
FOOT = (
    "Drawn from Prometheus’ answers to this dashboard’s own queries, over real runs of five peers in Docker"
    " Compose: normal, then seeded. Not a screenshot of Grafana."
)
COMPARED = ("--peers", "5", "--rounds", "5", "--modes", "normal,additive,seeded")


def report() -> None:
    """The live page in the middle of a round, and then what the run left."""
    with tempfile.TemporaryDirectory() as folder, opened(WIDTH) as seen:
        with Compare(Path(folder), *COMPARED) as compare:
            seen.page.goto(compare.url())
            take_live(seen.page)
            compare.ended()
        seen.page.goto((Path(folder) / "report.html").as_uri())
        take(seen.page, "report", bottom(seen.page, "#training .legend"))


def take_live(page: Any) -> None:
    """The liveliest moment of a later round of MODE; looks until the page says that it is over."""
    best = (0, 0)
    while page.evaluate("document.documentElement.dataset.ended") is None:
        heading, phase, moving = page.evaluate(
            """() => [document.querySelector('#live h2').textContent,
                      document.querySelector('.phases .now')?.textContent ?? '',
                      document.querySelectorAll('.flow.moves').length]"""
        )
        found = re.match(r"Live: (\w+), round (\d+)", heading)
        if found and found[1] == MODE and int(found[2]) > 2 and phase:
            # Uploads come one by one, so that some peers have sent theirs and others have not.
            lively = int(phase.startswith("upload")), moving
            if lively > best:
                best = lively
                take(page, "live", bottom(page, "#training .legend"))
        page.wait_for_timeout(100)
    assert best > (0, 0), "no moment at which anything moved was seen"


def dashboard() -> None:
    with runs_in_turn("smpcfl-screenshots", ROUNDS, PEERS) as ran:
        answers = fetch(BOARD, ran.prometheus, ran.window)
    with opened(BOARD_WIDTH + 24) as seen:
        seen.page.set_content(drawn(BOARD, answers, ran.window, UNTIL, FOOT))
        seen.page.screenshot(path=IMAGES / "dashboard.png", full_page=True)


def bottom(page: Any, selector: str) -> float:
    """Of the lowest such element, in pixels of the page."""
    script = """selector => Math.max(...[...document.querySelectorAll(selector)].map(
        item => item.getBoundingClientRect().bottom + scrollY))"""
    return float(page.evaluate(script, selector))


def take(page: Any, name: str, height: float) -> None:
    """The page's top, so high."""
    clip = {"x": 0, "y": 0, "width": WIDTH, "height": round(height) + 10}
    page.screenshot(path=IMAGES / f"{name}.png", full_page=True, clip=clip)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("which", nargs="?", choices=["report", "dashboard"], help="default: both")
    one = parser.parse_args().which
    which = [one] if one else ["report", "dashboard"]
    missing = browser_missing() or ("dashboard" in which and engine_missing())
    if missing:
        print(missing, file=sys.stderr)
        return 1
    IMAGES.mkdir(exist_ok=True)
    if "report" in which:
        report()
    if "dashboard" in which:
        dashboard()
    return 0


if __name__ == "__main__":
    sys.exit(main())
