"""The stack as local processes over IPv6 alone: every service listens on ::1, and is called there."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from smpcfl.aggregator import rounds_service
from smpcfl.base import host_port
from smpcfl.cli.stack import Stack
from support.processes import option

LOOPBACK = "::1"
PEERS, ROUNDS = 3, 2


def has_ipv6() -> bool:
    try:
        socket.create_server((LOOPBACK, 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def page(port: int, path: str) -> str:
    url = f"http://{host_port.joined(LOOPBACK, port)}{path}"
    with urllib.request.urlopen(url, timeout=5) as reply:
        return str(reply.read().decode())


@pytest.mark.processes
@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine's loopback")
def test_three_peers_train_over_ipv6_alone(tmp_path: Path) -> None:
    with Stack(tmp_path, "seeded", PEERS, ROUNDS, 1, host=LOOPBACK) as stack:
        stack.wait(lambda: len(rounds_service.read(stack.records)) == ROUNDS, 240, "training")
        for record in rounds_service.read(stack.records):
            assert (record.outcome, record.survivors) == ("complete", PEERS), stack.log(
                "aggregator"
            )
        # What Prometheus is to scrape, and the others are to call.
        targets = json.loads(page(option(stack, "registry", "--targets-port"), "/targets"))
        ports = [option(stack, f"peer-{number}", "--metrics-port") for number in range(PEERS)]
        told = [target for group in targets for target in group["targets"]]
        assert sorted(told) == sorted(f"[::1]:{port}" for port in ports)
        assert "smpcfl_peers_discovered" in page(ports[0], "/metrics")
        peer = option(stack, "peer-0", "--port")
        assert f"is at [::1]:{peer}, data slice" in stack.log("registry")
        assert "mDNS is for IPv4: this peer" in stack.log("peer-0")
        registry = host_port.joined(LOOPBACK, option(stack, "registry", "--port"))
        doctor = [sys.executable, "-m", "smpcfl", "doctor", "--host", LOOPBACK, "--mdns", "off"]
        doctor += ["--advertise", LOOPBACK, "--registry", registry]
        doctor += ["--state", str(tmp_path / "peer-0"), "--join", str(tmp_path / "join" / "peer")]
        for key in ("enrolment", "aggregator", "port", "metrics_port", "supernode_port"):
            name = f"--{key.replace('_', '-')}"
            arguments = stack._processes["peer-0"].args
            assert isinstance(arguments, list)
            doctor += [name, arguments[arguments.index(name) + 1]]
        found = subprocess.run(
            doctor, env=os.environ, capture_output=True, text=True, timeout=60, check=False
        )
        assert found.returncode == 0, found.stdout + found.stderr
        assert f"[::1]:{peer} leads back to this service" in found.stdout
