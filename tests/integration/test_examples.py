"""The ported apps in examples/: what changed is what their pages say, and they end as in plain Flower."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NAMES = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir())
SAVED = {
    "batchnorm-pytorch": {"model.pt"},
    "lora-pytorch": {"adapter.pt"},
    "metrics-sklearn": {"best.npz", "history.json"},
}
CHEAP = "metrics-sklearn"
NEEDS = {"metrics-sklearn": "sklearn"}  # beside what is installed for the bundled task
# Rounding in a ring of 16 bits, and what training makes of it: the loss of two rounds differs by some 1e-4.
CLOSE = 5e-3
all_of_them = pytest.mark.skipif(
    os.environ.get("EXAMPLES") != "1", reason="EXAMPLES=1 tries all examples: minutes"
)


@pytest.mark.parametrize("name", NAMES)
def test_the_diff_on_its_page_is_what_changed(name: str) -> None:
    """Of each file: the lines added are there, those taken away are not, and nothing else is ours."""
    (diff,) = re.findall(r"```diff\n(.*?)```", (EXAMPLES / name / "README.md").read_text(), re.S)
    files = re.split(r"^ # (\S+)\n", diff, flags=re.M)[1:]
    assert len(files) == 4, "client and server"
    for path, changes in zip(files[::2], files[1::2], strict=True):
        lines = (EXAMPLES / name / path).read_text().splitlines()
        added = {line[1:] for line in changes.splitlines() if line.startswith("+")}
        gone = {line[1:] for line in changes.splitlines() if line.startswith("-")}
        assert added <= set(lines), path
        assert not gone & set(lines), path
        assert {line for line in lines if re.search("secure|smpcfl", line, re.I)} == added, path


def test_every_example_is_tried() -> None:
    assert set(NAMES) == SAVED.keys()


@pytest.mark.processes
@pytest.mark.parametrize(
    ("name", "peers", "rounds"),
    # As few as there can be for the sake of CI's time: each message of a round is a process on each peer.
    [(CHEAP, 3, 1), *(pytest.param(name, 5, 2, marks=all_of_them) for name in NAMES)],
)
@pytest.mark.timeout(900)
def test_it_ends_as_in_plain_flower(name: str, peers: int, rounds: int, tmp_path: Path) -> None:
    module = NEEDS.get(name, "torch")
    if find_spec(module) is None:
        pytest.skip(f"the example needs {module}, which is not installed")
    command = [sys.executable, "-m", "smpcfl", "compare", "--app", str(EXAMPLES / name)]
    command += ["--peers", str(peers), "--rounds", str(rounds), "--modes", "normal,seeded"]
    done = subprocess.run(
        [*command, "--report", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    modes = json.loads((tmp_path / "report.json").read_text())["modes"]
    plain, secure = modes["normal"], modes["seeded"]
    for found in (plain, secure):
        assert found["outcome"] == ["complete"] * rounds, done.stdout
        assert found["survivors"] == [peers] * rounds, done.stdout
    for key in ("accuracy", "loss"):
        assert None not in plain[key], key
        # One test point that falls on the other side is a step of the accuracy.
        np.testing.assert_allclose(secure[key], plain[key], atol=CLOSE, err_msg=key)
    for mode in modes:
        saved = {path.name for path in (tmp_path / mode).iterdir()}
        assert saved == SAVED[name] | {"server.log"}
    if name == CHEAP:
        same_history(
            *(json.loads((tmp_path / mode / "history.json").read_text()) for mode in modes),
            rounds,
        )


def same_history(plain: dict[str, Any], secure: dict[str, Any], rounds: int) -> None:
    """Every metric of every round, in training and evaluation: its name, and its value or list."""
    for task in ("train", "evaluate"):
        assert secure[task].keys() == plain[task].keys()
        assert list(plain[task]) == [str(number + 1) for number in range(rounds)]
        for number, metrics in plain[task].items():
            assert metrics.keys() == {"mean-log-loss", "accuracy", "hits-by-kind"}
            assert secure[task][number].keys() == metrics.keys()
            for key, value in metrics.items():
                np.testing.assert_allclose(
                    secure[task][number][key], value, atol=CLOSE, err_msg=key
                )
