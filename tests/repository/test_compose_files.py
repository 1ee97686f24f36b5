"""What the Compose files come to; no engine is needed for that."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from support.compose import ONE_MACHINE

ROOT = Path(__file__).resolve().parents[2]
OURS = {"registry", "aggregator", "peer"}


pytestmark = [
    pytest.mark.commands,
    pytest.mark.skipif(shutil.which("docker") is None, reason="no docker command"),
]


def services(*files: str, **environment: str) -> dict[str, Any]:
    """Ours, as Compose would start them."""
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
    found: dict[str, Any] = json.loads(done.stdout)["services"]
    return {name: found[name] for name in found.keys() & OURS}


def modes(*files: str, **environment: str) -> set[str]:
    found = services(*files, **environment).values()
    return {service["environment"]["SMPCFL_MODE"] for service in found}


def test_the_file_for_normal_is_normal_whatever_is_exported() -> None:
    assert modes("-f", "docker-compose.normal.yml", SMPCFL_MODE="additive") == {"normal"}
    assert modes(SMPCFL_MODE="additive") == {"additive"}


def mounts(service: Mapping[str, Any]) -> dict[str, bool]:
    """Where something is mounted, and whether it is read-only."""
    return {item["target"]: item.get("read_only", False) for item in service["volumes"]}


def test_an_app_of_ones_own_adds_two_read_only_folders_and_frees_nothing(tmp_path: Path) -> None:
    files = (*ONE_MACHINE, "-f", "docker/own-app.yml")
    given = {"APP": str(tmp_path), "DATA": str(tmp_path), "PACKAGES": "a>=1 b"}
    plain, own = services(), services(*files, **given)
    assert own["aggregator"]["environment"]["SMPCFL_ROUNDS"] == "0"
    assert own["peer"]["environment"]["SMPCFL_NODE_CONFIG"] == 'data="/data"'
    assert own["peer"]["environment"]["SMPCFL_APPS"] == "bundled", "allowed by hash alone"
    for name, more in {"aggregator": {"/app": True}, "peer": {"/data": True}}.items():
        assert mounts(own[name]) == mounts(plain[name]) | more
        assert own[name]["build"]["args"]["PACKAGES"] == "a>=1 b"
    for name, service in own.items():
        for key in ("read_only", "cap_drop", "security_opt", "deploy", "user"):
            assert service.get(key) == plain[name].get(key), name


def test_the_node_config_of_all_replicas_is_a_variable() -> None:
    peer = services(SMPCFL_NODE_CONFIG='size=3 name="a b"')["peer"]
    assert peer["environment"]["SMPCFL_NODE_CONFIG"] == 'size=3 name="a b"'


@pytest.mark.parametrize("files", [(), ("-f", "docker-compose.normal.yml")])
def test_the_format_of_all_logs_is_a_variable(files: tuple[str, ...]) -> None:
    for given, log_format in (({}, "text"), ({"SMPCFL_LOG_FORMAT": "json"}, "json")):
        for service in services(*files, **given).values():
            assert service["environment"]["SMPCFL_LOG_FORMAT"] == log_format
