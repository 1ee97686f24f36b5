"""What the Compose files come to; no engine is needed for that."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from smpcfl import __version__
from smpcfl.base import config
from support.compose import ONE_MACHINE

ROOT = Path(__file__).resolve().parents[2]
OURS = {"registry", "aggregator", "peer"}


pytestmark = [
    pytest.mark.commands,
    pytest.mark.skipif(shutil.which("docker") is None, reason="no docker command"),
]


def compose(*files: str, **environment: str) -> subprocess.CompletedProcess[str]:
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
    return done


def services(*files: str, **environment: str) -> dict[str, Any]:
    """Ours, as Compose would start them."""
    done = compose(*files, **environment)
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


PEER = ("-f", "compose.peer.yml")
JOINING = {
    "SMPCFL_PEER_ID": "hospital-a",
    "SMPCFL_ADVERTISE": "203.0.113.7:19300",
    "SMPCFL_REGISTRY": "registry.example.org:9200",
    "SMPCFL_ENROLMENT": "registry.example.org:9201",
    "SMPCFL_AGGREGATOR": "[2001:db8::1]:9092",
}


def test_a_peer_that_joins_is_confined_as_all_are() -> None:
    joining, ours = services(*PEER, **JOINING)["peer"], services()["peer"]
    for key in ("restart", "init", "read_only", "cap_drop", "security_opt"):
        assert joining[key] == ours[key], key
    assert joining["deploy"]["resources"] == ours["deploy"]["resources"]
    assert joining["stop_grace_period"] == ours["stop_grace_period"]
    assert mounts(joining) == mounts(ours)
    assert joining["image"] == f"smpcfl-peer:{__version__}"


def test_a_peer_that_joins_has_the_settings_that_were_given_and_the_defaults() -> None:
    given = services(*PEER, **JOINING)["peer"]["environment"]
    assert config.load(given, {}) == config.load({**JOINING, "SMPCFL_MDNS": "off"}, {})
    more = {"SMPCFL_MIN_COHORT": "8", "SMPCFL_TICKETS_PER_HOUR": "6", "SMPCFL_APPS": "0" * 64}
    given = services(*PEER, **JOINING, **more)["peer"]["environment"]
    assert config.load(given, {}).min_cohort == 8
    assert {key: given[key] for key in more} == more


@pytest.mark.parametrize(
    ("port", "published"), [("", ("", "9300")), ("127.0.0.1:9301", ("127.0.0.1", "9301"))]
)
def test_a_peer_that_joins_publishes_one_port(port: str, published: tuple[str, str]) -> None:
    found = services(*PEER, **JOINING, SMPCFL_PUBLISH=port)["peer"]["ports"]
    (only,) = found
    assert (only.get("host_ip", ""), only["published"], only["target"]) == (*published, 9300)


@pytest.mark.parametrize("name", sorted(JOINING))
def test_what_a_peer_that_joins_lacks_is_named(name: str) -> None:
    done = compose(*PEER, **{**JOINING, name: ""})
    assert done.returncode != 0
    assert f"required variable {name} is missing a value: " in done.stderr


@pytest.mark.parametrize("files", [(), ("-f", "docker-compose.normal.yml")])
def test_the_format_of_all_logs_is_a_variable(files: tuple[str, ...]) -> None:
    for given, log_format in (({}, "text"), ({"SMPCFL_LOG_FORMAT": "json"}, "json")):
        for service in services(*files, **given).values():
            assert service["environment"]["SMPCFL_LOG_FORMAT"] == log_format


def test_each_limit_that_a_peer_sets_itself_can_be_set_where_it_joins() -> None:
    page = (ROOT / "docs/security.md").read_text()
    limits = page.partition("## Limits that a peer sets itself")[2].partition("\n## ")[0]
    wanted = set(re.findall(r"^\| `(SMPCFL_\w+)`", limits, re.MULTILINE))
    assert len(wanted) > 8
    assert wanted <= services(*PEER, **JOINING)["peer"]["environment"].keys()


@pytest.mark.parametrize(
    "name",
    ["docker-compose.yml", "docker-compose.override.yml", "docker-stack.yml", "compose.peer.yml"],
)
def test_variables_that_are_exported_for_compose_are_no_error_to_a_service(name: str) -> None:
    """Whoever exported them runs `smpcfl status` in the same shell."""
    used = set(re.findall(r"\$\{(SMPCFL_\w+)", (ROOT / name).read_text()))
    settings = {f"{config.PREFIX}{item.name.upper()}" for item in fields(config.Settings)}
    assert used <= settings | config.OTHER_VARIABLES


def test_a_federations_services_are_published_and_no_peer_runs_beside_them() -> None:
    files = (*ONE_MACHINE, "-f", "docker/federation.yml")
    found = services(*files, SMPCFL_ADVERTISE="aggregator.example.org")
    published = {
        (name, port["published"])
        for name, service in found.items()
        for port in service.get("ports", ())
        if port.get("host_ip", "") != "127.0.0.1"
    }
    assert published == {("registry", "9200"), ("registry", "9201"), ("aggregator", "9092")}
    assert found["peer"]["deploy"]["replicas"] == 0
    given = found["aggregator"]["environment"]
    assert given["SMPCFL_ADVERTISE"] == "aggregator.example.org"
    assert given["SMPCFL_ROUNDS"] == "0"
    assert compose(*files).returncode != 0, "the name is needed"
