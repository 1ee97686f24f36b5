"""Pages in a real headless Chromium (Debian's), with axe-core beside them.

`make browser` gets both; without them the tests that need them are skipped, and say so.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

AXE = Path(__file__).parents[2] / ".venv/npm/node_modules/axe-core/axe.min.js"
WIDTHS = (360, 768, 1280)
THEMES = ("light", "dark")


def chromium() -> str | None:
    """Where it is."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


@cache
def browser_missing() -> str:
    """Why there is no browser for tests here; empty if there is."""
    if find_spec("playwright") is None:
        return "playwright is not installed (pip install 'smpcfl[dev]')"
    if chromium() is None:
        return "no chromium (`make browser` says how to get it)"
    if not AXE.exists():
        return "no axe-core (`make browser`)"
    return ""


@dataclass
class Opened:
    """`page` is Playwright's. What it should not have done is in the lists."""

    page: Any
    said: list[str] = field(default_factory=list)
    """Messages in the console, and errors that nobody caught."""
    asked: list[str] = field(default_factory=list)
    """URLs that were requested."""

    def violations(self) -> list[str]:
        """What axe-core finds, by rule and element. All that is folded away is opened first."""
        self.page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
        found = self.page.evaluate(f"{AXE.read_text('utf-8')}; axe.run()")
        return [
            f"{rule['id']}: {node['target']} {node['failureSummary']}"
            for rule in found["violations"]
            for node in rule["nodes"]
        ]

    def too_wide(self) -> int:
        """Pixels by which the page is wider than the window."""
        width = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        return int(self.page.evaluate(width))


@contextmanager
def opened(width: int = 1280, theme: str = "light") -> Iterator[Opened]:
    """A blank page in a browser of its own, which no policy of a page's keeps axe-core from."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"]
        )
        try:
            context = browser.new_context(
                viewport={"width": width, "height": 900},
                color_scheme=theme,  # type: ignore[arg-type]
                device_scale_factor=1,
            )
            made = Opened(context.new_page())
            made.page.on("console", lambda message: made.said.append(message.text))
            made.page.on("pageerror", lambda error: made.said.append(str(error)))
            made.page.on("request", lambda request: made.asked.append(request.url))
            yield made
        finally:
            browser.close()
