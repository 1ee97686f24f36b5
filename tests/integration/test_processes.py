"""The stack as local processes: real Flower, gRPC, mDNS. And what a user sees when something is wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from smpcfl.aggregator import rounds_service
from smpcfl.cli.stack import LOOPBACK, Stack, free_ports
from smpcfl.daemons.allowed_apps import hash_of
from smpcfl.daemons.bundled import BUNDLED
from smpcfl.daemons.run_apps import app_of_run
from support.processes import option, page


def smpcfl(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "smpcfl", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.processes
def test_three_peers_train_and_find_each_other_by_mdns(tmp_path: Path) -> None:
    with Stack(tmp_path, "seeded", 3, 2, 1) as stack:
        stack.wait(lambda: len(rounds_service.read(stack.records)) == 2, 240, "training")
        first, second = rounds_service.read(stack.records)
        assert (first.outcome, second.outcome) == ("complete", "complete"), stack.log("aggregator")
        assert first.survivors == second.survivors == 3
        assert second.accuracy is not None
        assert second.accuracy > 0.8
        assert second.bytes_up < 0.55 * second.bytes_down
        assert 0 < second.bytes_p2p <= 2 * 1000
        targets = json.loads(page(option(stack, "registry", "--targets-port"), "/targets"))
        assert len(targets) == 3
        # What others announce on this link, another test's peers for example, is counted as well.
        metrics = page(option(stack, "peer-0", "--metrics-port"), "/metrics")
        seen = re.search(r'smpcfl_peers_discovered{mode="seeded",via="mdns"} (\S+)', metrics)
        assert seen is not None
        assert float(seen[1]) >= 3
        again = smpcfl(
            "run",
            "--rounds",
            "1",
            "--state",
            str(tmp_path / "aggregator"),
            "--superlink-port",
            str(option(stack, "aggregator", "--superlink-port")),
            SMPCFL_MIN_PEERS="3",
        )
        assert again.returncode == 0, again.stderr
        assert "round 1/1" in again.stdout
        registry = f"{LOOPBACK}:{option(stack, 'registry', '--port')}"
        for name in ("aggregator", "peer-0"):
            status = smpcfl(
                "status",
                *("--state", str(tmp_path / name), "--registry", registry),
                SMPCFL_JOIN=str(tmp_path / "join" / "peer"),
            )
            assert "aggregator that colludes with none of the 3 peers" in status.stdout, status
            assert status.stdout.count("│ yes") == 3, "of the roster, seen by mDNS"
        with closing(sqlite3.connect(tmp_path / "aggregator" / "superlink.db")) as database:
            runs = database.execute("SELECT run_id, clientapp_runtime FROM run").fetchall()
        assert [runtime for _, runtime in runs] == [0.0, 0.0], "how long the apps ran"
        for number in range(3):
            folder = tmp_path / f"peer-{number}" / "flower" / "run-apps"
            apps = [app_of_run(folder, run % 2**64) for run, _ in runs]
            assert apps == [bytes.fromhex(hash_of(BUNDLED))] * 2, stack.log(f"peer-{number}")


@pytest.mark.processes
def test_ctrl_c_ends_all(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "smpcfl", "demo", "--peers", "3", "--report", str(tmp_path)]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    demo = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 300
    while not any(tmp_path.glob("smpcfl-*/peer-2/log/supernode.log")):
        assert time.monotonic() < deadline, "the SuperNodes did not start"
        time.sleep(0.1)
    demo.send_signal(signal.SIGINT)
    assert demo.wait(300) == 130
    left = subprocess.run(
        ["pgrep", "-af", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert left.stdout == ""
    assert not list(tmp_path.glob("smpcfl-*"))


@pytest.mark.commands
@pytest.mark.parametrize(
    ("arguments", "environment", "text"),
    [
        (("peer", "--mode", "sedeed"), {}, "unknown mode 'sedeed'"),
        (("peer",), {"SMPCFL_MIN_COHROT": "3"}, "did you mean SMPCFL_MIN_COHORT?"),
        (("peer", "--min-cohort", "2"), {}, "min_cohort is 2: at least 3"),
        (("peer", "--metrics-port", "many"), {}, "--metrics-port is 'many'"),
        (("peer", "--metrics-port", "99999"), {}, "--metrics-port (SMPCFL_METRICS_PORT) is 99999"),
        (("registry", "--targets-port", "99999"), {}, "a port is 0 to 65535"),
        (("peer", "--mdns", "eth77"), {}, "--mdns (SMPCFL_MDNS) is 'eth77'"),
        (("peer", "--registry", "registry"), {}, "is 'registry': host:port is needed"),
        (("peer",), {"SMPCFL_ENROLMENT": "registry:0"}, "SMPCFL_ENROLMENT) is 'registry:0'"),
        (("peer", "--aggregator", ":9092"), {}, "is ':9092': host:port is needed"),
        (("demo", "--peers", "2"), {}, "a cohort of 2 keeps no secret"),
        (("compare", "--modes", "seeded,plain"), {}, "unknown mode 'plain'"),
        (("peer", "--state", "/proc/nowhere"), {}, "cannot write to the state folder"),
        (("run", "--state", "/nonexistent"), {}, "no aggregator keeps its state in /nonexistent"),
        (("status", "--state", "/nonexistent"), {}, "no certificate in /nonexistent"),
    ],
)
def test_wrong_usage_is_said_clearly(
    arguments: tuple[str, ...], environment: dict[str, str], text: str
) -> None:
    result = smpcfl(*arguments, **environment)
    assert result.returncode != 0
    assert text in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.commands
@pytest.mark.parametrize("service", ["registry", "peer", "aggregator"])
def test_an_address_of_another_machine_is_not_a_port_in_use(tmp_path: Path, service: str) -> None:
    result = smpcfl(service, "--state", str(tmp_path), "--host", "203.0.113.9")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith(
        f"smpcfl {service}: cannot listen on 203.0.113.9:9100 (Cannot assign requested address):"
        " give an address of this machine with --host"
    )
    assert "Traceback" not in result.stderr


@pytest.mark.commands
@pytest.mark.parametrize(
    ("service", "folder", "text"),
    [
        (
            "registry",
            {"join": "/proc/no"},
            "cannot write to the join folder /proc/no/peer: .* --join",
        ),
        ("peer", {"state": "s" * 100}, "is too long for a Unix socket .* --state"),
        ("aggregator", {"state": "s" * 100}, "is too long for a Unix socket .* --state"),
    ],
)
def test_a_folder_that_does_not_do_is_named_with_its_option(
    tmp_path: Path, service: str, folder: dict[str, str], text: str
) -> None:
    options = {"state": "state", "join": "join", "host": LOOPBACK, "mdns": "off"} | folder
    for key in ("state", "join"):
        options[key] = str(tmp_path / options[key])
    metrics, superlink = free_ports(2)
    options["metrics-port"] = str(metrics)
    if service == "aggregator":
        options["superlink-port"] = str(superlink)
    result = smpcfl(service, *(f"--{key}={value}" for key, value in options.items()))
    assert result.returncode == 1
    assert re.search(f"smpcfl {service}: .*{text}", result.stderr.splitlines()[-1])
    assert "Traceback" not in result.stderr


@pytest.mark.commands
def test_port_in_use_names_the_option(tmp_path: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = str(taken.getsockname()[1])
        result = smpcfl(
            "registry", "--state", str(tmp_path), "--host", LOOPBACK, "--metrics-port", port
        )
    assert result.returncode == 1
    assert f"{LOOPBACK}:{port}: the port is in use" in result.stderr
    assert "--metrics-port or SMPCFL_METRICS_PORT" in result.stderr


@pytest.mark.sockets
def test_a_registry_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncio

    from smpcfl.base.config import Settings
    from smpcfl.net import enrolment
    from smpcfl.net.certificates import IdentityError, Role
    from smpcfl.registry.authority import Authority

    Authority(tmp_path / "registry", tmp_path / "join")
    monkeypatch.setattr(enrolment, "_PATIENCE_S", 0.5)
    (port,) = free_ports(1)
    settings = Settings(
        state=tmp_path / "peer", join=tmp_path / "join" / "peer", enrolment=f"{LOOPBACK}:{port}"
    )
    with pytest.raises(IdentityError, match=f"no registry at {LOOPBACK}:{port}"):
        asyncio.run(enrolment.enrol(settings, Role.PEER))
