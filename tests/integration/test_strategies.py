"""Every strategy that works, on real processes: it ends as in plain Flower, and writes the same files.

One ServerApp trains with one after another, as starting a stack takes longer than a round. All of them go
through one run of mode `normal`, which is plain Flower, and one of `seeded`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

APP = Path(__file__).with_name("strategies_app")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "porting.md"
WORKS = re.compile(r"^\| `(\w+)` \| works \|", re.M)
NAMES = re.findall(r'^        "(.+)": \(', (APP / "strategies" / "server_app.py").read_text(), re.M)
OWN = {f"keeping-{number}.npz" for number in (1, 2)} | {"keeping-evaluated.json"}
PRINTED = "server.log"
MODES = ("normal", "seeded")
PEERS = 3  # the fewest: a round starts a process on each
# What rounding in a ring of 32 bits leaves, and metrics in 64 bits; Adam's division makes most of it.
CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}

pytestmark = [
    pytest.mark.processes,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(
        os.environ.get("EXAMPLES") != "1", reason="EXAMPLES=1 tries all strategies: ten minutes"
    ),
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the report, with one for each mode."""
    folder = tmp_path_factory.mktemp("report")
    command = [sys.executable, "-m", "smpcfl", "compare", "--app", str(APP), "--peers", str(PEERS)]
    done = subprocess.run(
        [*command, "--modes", "normal,seeded", "--report", str(folder)],
        capture_output=True,
        text=True,
        timeout=3500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for mode, found in json.loads((folder / "report.json").read_text())["modes"].items():
        assert set(found["outcome"]) == {"complete"}, (mode, done.stdout)
        assert set(found["survivors"]) == {PEERS}, (mode, done.stdout)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_a_strategy_ends_as_in_plain_flower(name: str, saved: Path) -> None:
    plain, secure = (json.loads((saved / m / f"{name}.json").read_text()) for m in MODES)
    assert plain["train"].keys() >= {"1"}, "something was compared"
    assert dict(leaves(secure)).keys() == dict(leaves(plain)).keys()
    for key, value in leaves(plain):
        same(dict(leaves(secure))[key], value, f"{name}: {key}")
    same_arrays(*(saved / mode / f"{name}.npz" for mode in MODES))


def test_the_same_files_are_written(saved: Path) -> None:
    expected = {f"{name}.{kind}" for name in NAMES for kind in ("json", "npz")} | OWN
    for mode in MODES:
        assert {path.name for path in (saved / mode).iterdir()} == expected | {PRINTED}, mode
    for number in (1, 2):
        same_arrays(*(saved / mode / f"keeping-{number}.npz" for mode in MODES))
    plain, secure = (json.loads((saved / m / "keeping-evaluated.json").read_text()) for m in MODES)
    assert plain.keys() == secure.keys() == {"1", "2"}
    assert dict(leaves(plain)).keys() == dict(leaves(secure)).keys()


def test_all_that_the_page_says_works_was_tried(saved: Path) -> None:
    tried = {
        kind
        for name in NAMES
        for kind in json.loads((saved / "seeded" / f"{name}.json").read_text())["classes"]
    }
    assert tried == {*WORKS.findall(PAGE.read_text(encoding="utf-8")), "SecureStrategy", "Keeping"}


def leaves(found: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Of nested dictionaries: where each value is, and the value."""
    if not isinstance(found, dict):
        yield path, found
        return
    for key, value in found.items():
        yield from leaves(value, f"{path}/{key}")


def same(found: Any, expected: Any, what: str) -> None:
    if what.endswith("/classes"):
        assert found == expected
    else:
        np.testing.assert_allclose(found, expected, **CLOSE, err_msg=what)


def same_arrays(plain: Path, secure: Path) -> None:
    """Names, dtypes, shapes, values."""
    found, expected = np.load(secure), np.load(plain)
    assert found.files == expected.files
    for name in expected:
        assert found[name].dtype == expected[name].dtype, (secure.name, name)
        assert found[name].shape == expected[name].shape, (secure.name, name)
        same(found[name], expected[name], f"{secure.name}: {name}")
