"""What docker-compose.yml comes to beside docker-stack.yml, and beside docker-compose.override.yml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from smpcfl import __version__

ROOT = Path(__file__).parents[2]
OURS = ("registry", "aggregator", "peer")
SEEN = ("prometheus", "grafana")
NOT_MOUNTED = {"prometheus/tests"}  # of promtool's


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())
    return found


COMMON, HERE, SWARM = map(
    load, ("docker-compose.yml", "docker-compose.override.yml", "docker-stack.yml")
)


def test_swarm_publishes_nothing() -> None:
    """It would on all addresses of all nodes, whatever address is given, and nobody has to log in there."""
    for file in (COMMON, SWARM):
        assert not [name for name, service in file["services"].items() if "ports" in service]


def test_what_is_common_is_nothing_that_swarm_refuses_or_leaves_out() -> None:
    assert "name" not in COMMON
    for name, service in COMMON["services"].items():
        refused = {"mem_limit", "pids_limit", "build", "restart", "security_opt", "tmpfs"}
        assert not service.keys() & refused, name
        assert service["deploy"]["resources"]["limits"]["memory"], name
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name


def test_on_one_machine_all_are_confined_and_published_on_loopback_alone() -> None:
    assert HERE["services"].keys() == COMMON["services"].keys()
    for name, service in HERE["services"].items():
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["restart"] == "unless-stopped", name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name


@pytest.mark.parametrize("name", OURS)
def test_images_have_a_version_and_a_place_of_ones_own(name: str) -> None:
    image = COMMON["services"][name]["image"]
    assert image == f"${{SMPCFL_IMAGES:-}}smpcfl-{name}:${{SMPCFL_VERSION:-{__version__}}}"


@pytest.mark.parametrize("name", SEEN)
def test_images_of_others_have_a_tag(name: str) -> None:
    _, _, tag = COMMON["services"][name]["image"].partition(":")
    assert tag.lstrip("v")[0].isdigit()


def targets(service: dict[str, Any], kind: str) -> dict[str, str]:
    return {item["source"]: item["target"] for item in service.get(kind, ())}


def test_each_service_gets_its_own_secrets_where_it_looks_for_them() -> None:
    given = {name: targets(SWARM["services"][name], "secrets") for name in OURS}
    assert given == {
        "registry": {
            "ca-key": "/run/smpcfl/authority/ca-key.pem",
            "peer-token": "/run/smpcfl/authority/peer-token",
            "aggregator-token": "/run/smpcfl/authority/aggregator-token",
        },
        "aggregator": {"aggregator-token": "/run/smpcfl/join/token"},
        "peer": {"peer-token": "/run/smpcfl/join/token"},
    }
    for name in OURS:
        for item in SWARM["services"][name]["secrets"]:
            assert (item["uid"], item["mode"]) == ("10001", 0o400)
    cas = {name: targets(SWARM["services"][name], "configs")["ca"] for name in OURS}
    assert cas == {
        "registry": "/run/smpcfl/authority/ca.pem",
        "aggregator": "/run/smpcfl/join/ca.pem",
        "peer": "/run/smpcfl/join/ca.pem",
    }


def test_no_volume_is_shared_and_none_is_that_of_another_replica() -> None:
    mounted: list[str] = []
    for file in (COMMON, SWARM):
        for service in file["services"].values():
            for volume in service.get("volumes", ()):
                short = isinstance(volume, str)
                if short or volume["type"] == "volume":
                    mounted.append(volume.split(":")[0] if short else volume["source"])
                else:
                    assert volume["type"] == "tmpfs", volume
    assert sorted(mounted) == sorted({*COMMON["volumes"], *SWARM["volumes"]})
    assert SWARM["volumes"]["peer-state"]["name"].endswith("{{.Task.Slot}}")


def test_what_one_machine_mounts_for_monitoring_swarm_has_as_configs() -> None:
    for name in SEEN:
        wanted = {}
        for volume in HERE["services"][name]["volumes"]:
            source, target, _ = volume.split(":")
            for path in (ROOT / source).rglob("*"):
                relative = path.relative_to(ROOT)
                if path.is_file() and not NOT_MOUNTED & {str(item) for item in relative.parents}:
                    inside = path.relative_to(ROOT / source)
                    wanted[f"{target}/{inside}"] = str(relative)
        found = {
            target: SWARM["configs"][source]["file"]
            for source, target in targets(SWARM["services"][name], "configs").items()
        }
        assert found == wanted, name


def test_another_version_makes_other_configs_which_swarm_does_not_change() -> None:
    for name, config in SWARM["configs"].items():
        if "file" in config:
            assert config["name"] == f"smpcfl-{name}-${{SMPCFL_VERSION:-{__version__}}}"
