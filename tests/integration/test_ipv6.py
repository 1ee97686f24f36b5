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
from smpcfl.base.metrics import Metrics
from smpcfl.cli.stack import Stack
from smpcfl.net import rpc
from smpcfl.net.certificates import Role
from smpcfl.registry.roster import Roster
from smpcfl.registry.targets import serve_targets
from support.enrolled import Deployment
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


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine's loopback")


@needs_ipv6
@pytest.mark.sockets
async def test_a_service_that_listens_on_all_of_ipv6_listens_on_ipv4_as_well(
    tmp_path: Path,
) -> None:
    page, _ = Metrics("seeded").serve("::", 0)
    targets = serve_targets("::", 0, Roster(tmp_path / "indices.json", 1))
    server = rpc.new_server()
    own = Deployment(tmp_path).identity(Role.PEER, "peer-a").server_credentials()
    ports = [page.server_port, targets.server_port, rpc.bind(server, "::", 0, own, "port")]
    await server.start()
    try:
        for port in ports:
            for host in ("127.0.0.1", LOOPBACK):
                with socket.create_connection((host, port), timeout=10.0):
                    pass
    finally:
        await server.stop(0)
        for each in (page, targets):
            each.shutdown()
            each.server_close()


@needs_ipv6
@pytest.mark.processes
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
