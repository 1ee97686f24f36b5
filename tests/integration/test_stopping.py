"""A service that waits for another one can be stopped."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from smpcfl.cli.stack import LOOPBACK, free_ports

pytestmark = pytest.mark.processes


@pytest.mark.parametrize("service", ["peer", "aggregator"])
def test_a_service_that_waits_for_the_registry_stops_at_once(tmp_path: Path, service: str) -> None:
    metrics, superlink = free_ports(2)
    command = [sys.executable, "-m", "smpcfl", service, "--host", LOOPBACK, "--mdns", "off"]
    command += ["--state", str(tmp_path / "state"), "--join", str(tmp_path / "join")]
    command += ["--metrics-port", str(metrics)]
    if service == "aggregator":
        command += ["--superlink-port", str(superlink)]
    waiting = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert waiting.stderr is not None
        assert any("for the registry" in line for line in waiting.stderr)
        began = time.monotonic()
        waiting.send_signal(signal.SIGTERM)
        assert waiting.wait(30) == 0
        assert time.monotonic() - began < 8
    finally:
        waiting.kill()
        waiting.wait()
