"""Which Flower the tests run with: one that pyproject.toml allows, and in `make older-flower` the oldest."""

from __future__ import annotations

import os
import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import flwr
import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[2]


def allowed() -> SpecifierSet:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (flower,) = (one for one in map(Requirement, project["dependencies"]) if one.name == "flwr")
    return flower.specifier


def older() -> str:
    (found,) = re.findall(r"^OLDER_FLOWER := (.*)$", (ROOT / "Makefile").read_text(), re.M)
    return found


def test_flower_is_one_that_the_project_allows() -> None:
    assert version("flwr") in allowed()


def test_the_older_one_is_the_oldest_that_is_allowed() -> None:
    (oldest,) = (one.version for one in allowed() if one.operator == ">=")
    assert older() == f"{oldest}.*"


@pytest.mark.skipif("OLDER_FLOWER_IN" not in os.environ, reason="it is for make older-flower")
def test_it_lies_over_the_environments_own() -> None:
    assert version("flwr") in SpecifierSet(f"=={older()}")
    assert Path(flwr.__file__).is_relative_to(os.environ["OLDER_FLOWER_IN"])
