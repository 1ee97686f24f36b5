"""The stack on two real Docker engines in one Swarm, as docs/deploy.md deploys it."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from smpcfl import __version__

from .compose import ONE_MACHINE, ROOT, Compose, docker, engine_missing, wait

NAME = "smpcfl"
FILES = ("docker-compose.yml", "docker-stack.yml", "tests/containers/swarm.yml")
PEER_IMAGE = f"smpcfl-peer:{__version__}"
SECRETS = {
    "smpcfl-ca-key": "ca-key.pem",
    "smpcfl-peer-token": "peer-token",
    "smpcfl-aggregator-token": "aggregator-token",
}


@cache
def second_engine() -> str:
    """Where the second engine of this machine's Swarm listens."""
    return os.environ.get("SECOND_ENGINE", "")


def link() -> str:
    """The network interface between the two."""
    return os.environ.get("SECOND_ENGINE_LINK", "")


@cache
def swarm_missing() -> str:
    """Why the stack cannot be deployed over two engines here; empty if it can."""
    if why := engine_missing():
        return f"no Docker engine: {why}"
    if not second_engine() or not link():
        return "SECOND_ENGINE and SECOND_ENGINE_LINK name no second Docker engine"
    if missing := [name for name in ("tcpdump", "ip") if shutil.which(name) is None]:
        return f"no {' and no '.join(missing)} here"
    if os.geteuid() != 0:
        return "only root may capture packets and cut links"
    try:
        nodes = docker("node", "ls", "-q").split()
        second("info")
    except AssertionError as error:
        return f"no Swarm: {error}"
    return "" if len(nodes) == 2 else f"a Swarm of {len(nodes)} nodes, and not of two"


def second(*arguments: str) -> str:
    """As `docker`, on the second engine."""
    return docker("-H", second_engine(), *arguments)


class SwarmStack:
    """The services of docker-stack.yml: registry, aggregator and Prometheus on this node, peers on both."""

    def __init__(self, authority: Path, **environment: str) -> None:
        self.authority = authority
        self._environment = {**os.environ, **environment}
        self.other = second("info", "-f", "{{.Swarm.NodeID}}").strip()
        self.this = docker("info", "-f", "{{.Swarm.NodeID}}").strip()

    def prepare(self) -> None:
        """Images, secrets, and the label: what docs/deploy.md has before `docker stack deploy`."""
        Compose(NAME, *ONE_MACHINE)("build", "registry", "aggregator", "peer")
        load(PEER_IMAGE)
        self.authority.mkdir()
        docker(
            "run",
            "--rm",
            *("--user", str(os.getuid()), "-v", f"{self.authority}:/authority"),
            *(f"smpcfl-registry:{__version__}", "authority", "/authority"),
        )
        for name, file in SECRETS.items():
            docker("secret", "create", name, str(self.authority / file))
        docker("config", "create", "smpcfl-ca", str(self.authority / "ca.pem"))
        docker("node", "update", "--label-add", "smpcfl.services=true", self.this)

    def deploy(self) -> None:
        files = [part for name in FILES for part in ("-c", name)]
        done = subprocess.run(
            ["docker", "stack", "deploy", "--resolve-image", "never", *files, NAME],
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def remove(self) -> None:
        docker("stack", "rm", NAME, check=False)
        docker("node", "update", "--availability", "active", self.other, check=False)
        docker("node", "update", "--label-rm", "smpcfl.services", self.this, check=False)
        wait(lambda: not self._left(), 120, lambda: str(self._left()))
        docker("secret", "rm", *SECRETS, check=False)
        docker("config", "rm", "smpcfl-ca", check=False)
        for on in (docker, second):
            names = on("volume", "ls", "-q", "-f", f"name={NAME}").split()
            if names:
                on("volume", "rm", "-f", *names)

    def _left(self) -> list[str]:
        """Containers, which end after their services, and networks, after these."""
        containers = [on("ps", "-aq", "-f", f"name={NAME}_") for on in (docker, second)]
        networks = docker("network", "ls", "-q", "-f", f"name={NAME}_")
        return [item for text in (*containers, networks) for item in text.split()]

    def containers(self, service: str, other: bool = False) -> list[str]:
        """Of this node, or of the other one: those that run."""
        on = second if other else docker
        return on("ps", "-q", "-f", f"label=com.docker.swarm.service.name={NAME}_{service}").split()

    def on(self, service: str, *command: str, seconds: float = 120) -> str:
        """What a command in the one container of `service` on this node prints."""
        (container,) = self.containers(service)
        return docker("exec", container, *command, seconds=seconds)

    def logs(self, service: str) -> str:
        """Of all its tasks; they write to standard error."""
        command = ["docker", "service", "logs", "--raw", f"{NAME}_{service}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        return done.stdout + done.stderr

    def running(self, service: str = "peer") -> dict[str, int]:
        """How many tasks run on each node."""
        ids = docker("node", "ls", "-q").split()
        found = {}
        for node in ids:
            text = docker(
                *("node", "ps", node, "-f", f"name={NAME}_{service}"),
                *("-f", "desired-state=running", "--format", "{{.CurrentState}}"),
            )
            found[node] = sum(line.startswith("Running") for line in text.splitlines())
        return found

    def roster(self) -> dict[str, Any]:
        """By peer id; empty as long as the aggregator cannot tell."""
        shown = self.on("aggregator", "sh", "-c", "smpcfl status --json || true")
        roster = json.loads(shown)["roster"] if shown else []
        return {entry["peer"]: entry for entry in roster}

    def records(self) -> list[dict[str, Any]]:
        text = self.on("aggregator", "sh", "-c", "cat /var/lib/smpcfl/records.jsonl || true")
        return [json.loads(line) for line in text.splitlines()]

    def tasks(self) -> str:
        """For a test that failed."""
        shown = docker("stack", "ps", "--no-trunc", NAME, check=False)
        return shown[-3000:] + self.logs("aggregator")[-3000:]


def load(image: str) -> None:
    """Copies an image to the second engine, as there is no registry that both reach."""
    saved = subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE)
    taken = ["docker", "-H", second_engine(), "load"]
    done = subprocess.run(taken, stdin=saved.stdout, capture_output=True, timeout=600, check=False)
    assert saved.wait(60) == 0
    assert done.returncode == 0, done.stderr


class TcpDump:
    """Writes down what the nodes send each other over the link, until it is stopped.

    Not what the other one sends beyond this one, which is its way out: its engine asks for images there.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        command = ["tcpdump", "-i", link(), "-w", str(file), "-s", "0", "-B", "65536", "-Z", "root"]
        command.append(f"src net {_network()} and dst net {_network()}")
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self._told = ""
        assert self._process.stderr is not None
        assert "listening on" in self._process.stderr.readline()

    def stop(self) -> str:
        """What it says of it: how many packets it missed."""
        if self._process.poll() is None:
            self._process.terminate()
            _, self._told = self._process.communicate(timeout=60)
        return self._told


def _network() -> str:
    """The link's, as 192.0.2.0/24."""
    shown = subprocess.run(
        ["ip", "-j", "-4", "addr", "show", "dev", link()],
        capture_output=True,
        check=True,
        timeout=10,
    )
    ((found,),) = (item["addr_info"] for item in json.loads(shown.stdout))
    return str(ipaddress.ip_interface(f"{found['local']}/{found['prefixlen']}").network)
