"""The rules and the configuration as Prometheus itself reads them: promtool, from its image."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
import yaml

from support.compose import ROOT, engine_missing

FOLDER = ROOT / "prometheus"
TESTS = FOLDER / "tests/alerts_test.yml"
IMAGE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["prometheus"]["image"]


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    mount = f"{FOLDER}:/etc/prometheus:ro"
    command = ["docker", "run", "--rm", "-v", mount, "--entrypoint", "promtool", IMAGE, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize(
    "arguments",
    [
        ("test", "rules", "/etc/prometheus/tests/alerts_test.yml"),
        ("check", "config", "/etc/prometheus/prometheus.yml"),
        ("check", "rules", "--lint-fatal", "/etc/prometheus/alerts.yml"),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
@pytest.mark.containers
@pytest.mark.skipif(bool(engine_missing()), reason=f"no Docker engine: {engine_missing()}")
def test_promtool_is_content(arguments: tuple[str, ...]) -> None:
    done = promtool(*arguments)
    assert not done.returncode, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout + done.stderr


def cases() -> list[Any]:
    """Every moment of every test of the rules."""
    tests = yaml.safe_load(TESTS.read_text())["tests"]
    return [case for test in tests for case in test["alert_rule_test"]]


def test_each_alert_is_tested_firing_and_not_firing() -> None:
    groups = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"]}
    assert {case["alertname"] for case in cases() if case.get("exp_alerts")} == alerts
    assert {case["alertname"] for case in cases() if not case.get("exp_alerts")} == alerts
