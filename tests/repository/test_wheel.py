"""A newcomer's way, outside the checkout: the wheel, an empty folder, an app of one's own, one command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from support import own_app

ROOT = Path(__file__).resolve().parents[2]
PEERS, ROUNDS = 3, 1


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the wheel is unpacked. What was generated in the checkout has no part in it."""
    folder = tmp_path_factory.mktemp("wheel")
    source, built, into = folder / "source", folder / "built", folder / "installed"
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    left_out = shutil.ignore_patterns("smpc", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT / "services", source / "services", ignore=left_out)
    shutil.copytree(ROOT / "proto", source / "proto")
    pip("wheel", "--no-build-isolation", "--wheel-dir", str(built), str(source))
    pip("install", "--target", str(into), *map(str, built.glob("*.whl")))
    return into


def pip(command: str, *arguments: str) -> None:
    call = [sys.executable, "-m", "pip", command, "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*call, *arguments], check=True, timeout=120)


def smpcfl(
    installed: Path, folder: Path, *arguments: str, seconds: float = 60
) -> subprocess.CompletedProcess[str]:
    """Typed in `folder`."""
    return subprocess.run(
        [str(installed / "bin" / "smpcfl"), *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


@pytest.mark.processes
def test_the_wheel_has_all_that_its_commands_need(installed: Path, tmp_path: Path) -> None:
    done = smpcfl(installed, tmp_path, "--help")
    assert done.returncode == 0, done.stderr
    assert "demo" in done.stdout
    assert (installed / "smpc" / "v1" / "peer_pb2_grpc.py").exists()
    # Reads the bundled app, which is no Python.
    bundled = installed / "smpcfl" / "tasks" / "digits" / "app"
    done = smpcfl(installed, tmp_path, "hash", str(bundled))
    assert done.returncode == 0, done.stderr
    # Compares with figures that it brings along.
    done = smpcfl(installed, tmp_path, "bench", "bytes", "--short", "--check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not any(tmp_path.iterdir())


@pytest.mark.processes
def test_an_app_of_ones_own_is_compared_with_one_command(installed: Path, tmp_path: Path) -> None:
    app = own_app.written(tmp_path / "app")
    data = own_app.numbers(tmp_path / "data", PEERS)
    done = smpcfl(
        *(installed, tmp_path, "compare", "--app", "app", "--modes", "normal,seeded"),
        *("--peers", str(PEERS), "--rounds", str(ROUNDS)),
        *("--node-config", f'data="{tmp_path / "data"}"'),
        seconds=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["meta"]["app"] == app.name
    for mode in ("normal", "seeded"):
        found = report["modes"][mode]
        assert (found["outcome"], found["survivors"]) == (["complete"], [PEERS]), done.stdout
        assert found["accuracy"] == [None], "the app evaluates nothing"
        learnt = float(np.loadtxt(tmp_path / "report" / mode / own_app.SAVED))
        assert learnt == pytest.approx(own_app.learnt(data, ROUNDS), abs=1e-3), mode
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"app", "data", "report"}, "and nothing else is left behind"
