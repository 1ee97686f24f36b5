"""The version stands in two places: what pip installs, and what smpcfl says of itself."""

from __future__ import annotations

import tomllib
from pathlib import Path

from smpcfl import __version__

ROOT = Path(__file__).resolve().parents[2]


def test_both_are_the_same() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == __version__
