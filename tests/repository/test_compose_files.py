"""What the Compose files come to; no engine is needed for that."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = {"registry", "aggregator", "peer"}


def modes(*files: str, **environment: str) -> set[str]:
    done = subprocess.run(
        ["docker", "compose", *files, "config", "--format", "json"],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode and "not a docker command" in done.stderr:
        pytest.skip("no Docker Compose here")
    assert not done.returncode, done.stderr
    services = json.loads(done.stdout)["services"]
    return {services[name]["environment"]["SMPCFL_MODE"] for name in services.keys() & OURS}


@pytest.mark.skipif(shutil.which("docker") is None, reason="no docker command")
def test_the_file_for_normal_is_normal_whatever_is_exported() -> None:
    assert modes("-f", "docker-compose.normal.yml", SMPCFL_MODE="additive") == {"normal"}
    assert modes(SMPCFL_MODE="additive") == {"additive"}
