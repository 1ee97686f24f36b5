"""The relay's files fit together, and fit how peers call one another. That they work: tests/containers."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from smpcfl.net import rpc
from smpcfl.net.certificates import Role, tls_name

ROOT = Path(__file__).resolve().parents[2]
RELAY = ROOT / "deploy/relay"
PROXY = (RELAY / "haproxy.cfg").read_text()


@pytest.mark.commands
@pytest.mark.skipif(shutil.which("haproxy") is None, reason="no haproxy here")
def test_haproxy_takes_the_configuration() -> None:
    done = subprocess.run(
        ["haproxy", "-c", "-f", str(RELAY / "haproxy.cfg")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_it_goes_by_the_names_that_peers_ask_for() -> None:
    rules = re.findall(r"use_backend (\S+) if \{ req\.ssl_sni -m str -i (\S+) \}", PROXY)
    assert rules
    assert [name for _, name in rules] == [tls_name(Role.PEER, peer) for peer, _ in rules]
    backends = re.findall(r"^backend (\S+)$", PROXY, re.M)
    assert backends == [*(peer for peer, _ in rules), "nobody"]


def test_a_silent_connection_lasts_longer_than_grpc_keeps_one() -> None:
    options = dict(rpc._OPTIONS)
    kept_ms = options["grpc.max_connection_age_ms"] + options["grpc.max_connection_age_grace_ms"]
    minutes = [
        int(found) for found in re.findall(r"^ +timeout (?:client|server) (\d+)m$", PROXY, re.M)
    ]
    assert len(minutes) == 2
    assert min(minutes) * 60_000 > kept_ms


def test_the_tunnels_port_is_the_same_in_all_files() -> None:
    end = "127.0.0.1:19301"
    assert f"server tunnel {end}\n" in PROXY
    for path in (RELAY / "sshd.conf", ROOT / "docs/joining.md"):
        assert f'permitlisten="{end}"' in path.read_text()
    assert f"-R {end}:127.0.0.1:9300 " in (RELAY / "smpcfl-tunnel.service").read_text()
