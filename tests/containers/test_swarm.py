"""docker-stack.yml over two Docker engines: a drained node, a rolling update, and a link that is cut."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from threading import Thread
from typing import Any

import pytest

from smpcfl import __version__
from support.captured import Capture, not_tls
from support.compose import docker, wait
from support.swarm import PEER_IMAGE, SwarmStack, TcpDump, link, load, second, swarm_missing

PEERS = 8
ROUNDS = 10
FEWER_ROUNDS = 4
WITHSTOOD = 2  # peers that a round of eight may lose
LEAST = 4  # as many as are on one node
DOWN_S = 60.0
NEXT_IMAGE = "smpcfl-peer:next"
PATIENCE_S = 900.0  # on the slowest machine
SERVICE_PORTS = {9092, 9200, 9201, 9300}
METRICS = {9100, 9101}  # plain HTTP: docs/security.md, "Flows"

pytestmark = [
    pytest.mark.containers,
    pytest.mark.timeout(3000),
    pytest.mark.skipif(bool(swarm_missing()), reason=swarm_missing()),
]


class Run:
    """A training run, started in the aggregator's container as its operator would."""

    def __init__(self, stack: SwarmStack, rounds: int) -> None:
        self._stack = stack
        self._rounds = rounds
        self._before = len(stack.records())
        self._thread = Thread(target=self._train, daemon=True)
        self._thread.start()

    def _train(self) -> None:
        command = ("smpcfl", "run", "--rounds", str(self._rounds))
        self._stack.on("aggregator", *command, seconds=PATIENCE_S)

    def records(self) -> list[dict[str, Any]]:
        return self._stack.records()[self._before :]

    def wait_for(self, rounds: int) -> list[dict[str, Any]]:
        """The run's records once so many rounds are complete."""

        def complete() -> list[dict[str, Any]]:
            return [record for record in self.records() if record["outcome"] == "complete"]

        wait(lambda: len(complete()) >= rounds, PATIENCE_S, self._stack.tasks)
        return complete()

    def end(self) -> list[dict[str, Any]]:
        """The records of all its rounds. One that ends void is over: its number does not come again."""
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), self._stack.tasks()
        found = self.records()
        assert [record["round"] for record in found] == list(range(1, self._rounds + 1))
        complete = [record for record in found if record["outcome"] == "complete"]
        void = [record for record in found if record["outcome"] != "complete"]
        # Else the protocol has lost a round that it should not.
        assert all(record["dropouts"] > WITHSTOOD for record in void), void
        assert len(complete) >= self._rounds - 3, found
        assert complete[-1]["accuracy"] > 0.88, found
        assert all(record["survivors"] >= LEAST for record in complete), found
        return found


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TcpDump]:
    found = TcpDump(tmp_path_factory.mktemp("link") / "link.pcap")
    yield found
    found.stop()


@pytest.fixture(scope="module")
def stack(capture: TcpDump, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwarmStack]:
    found = SwarmStack(
        tmp_path_factory.mktemp("swarm") / "authority",
        SMPCFL_PEERS=str(PEERS),
        SMPCFL_MIN_PEERS=str(LEAST),
        SMPCFL_MIN_COHORT=str(LEAST),
        SMPCFL_ROUNDS="0",
    )
    try:
        found.prepare()
        found.deploy()
        all_there(found)
        yield found
    finally:
        found.remove()


def all_there(stack: SwarmStack) -> None:
    wait(lambda: sum(stack.running().values()) == PEERS, PATIENCE_S, stack.tasks)
    wait(lambda: bool(stack.containers("aggregator")), PATIENCE_S, stack.tasks)
    wait(lambda: len(stack.roster()) == PEERS, PATIENCE_S, stack.tasks)


def prometheus(stack: SwarmStack, expression: str) -> list[float]:
    query = ("promtool", "query", "instant", "-o", "json", "http://127.0.0.1:9090", expression)
    return [float(item["value"][1]) for item in json.loads(stack.on("prometheus", *query))]


def test_peers_on_both_nodes_are_found_by_the_registry_and_log_and_metric_say_so(
    stack: SwarmStack,
) -> None:
    assert stack.running() == {stack.this: PEERS // 2, stack.other: PEERS // 2}
    assert stack.logs("peer").count("mDNS is off: peers are found by the registry") == PEERS
    assert all(entry["seen"] == ["registry"] for entry in stack.roster().values())
    by_registry = 'smpcfl_peers_discovered{via="registry",job="peer"}'
    wait(lambda: prometheus(stack, by_registry) == [PEERS] * PEERS, 60, stack.tasks)
    assert prometheus(stack, 'smpcfl_peers_discovered{via="mdns",job="peer"}') == [0.0] * PEERS


def test_each_node_has_secrets_of_its_own_containers_alone(stack: SwarmStack) -> None:
    """On its disk, and in what its containers are given."""
    here, there = private_keys(stack, other=False), private_keys(stack, other=True)
    assert (len(here), len(there)) == (PEERS // 2 + 2, PEERS // 2)
    here["ca-key"] = key_text((stack.authority / "ca-key.pem").read_text())
    here["aggregator-token"] = (stack.authority / "aggregator-token").read_text()
    on_disk = {on: found_on_disk(on, {*here.values(), *there.values()}) for on in (docker, second)}
    assert not on_disk[second] & set(here.values())
    assert not on_disk[docker] & set(there.values())
    # So that it is no wonder: keys are on the disk of their own node. What Swarm gives is in memory there.
    assert on_disk[second] == set(there.values())
    assert on_disk[docker] == {here[name] for name in here.keys() - {"ca-key", "aggregator-token"}}
    for container in stack.containers("peer", other=True):
        given = second(
            "exec", container, "sh", "-c", "ls /run/smpcfl/* /run/secrets 2>/dev/null; true"
        )
        assert "token" in given
        assert "authority" not in given


def private_keys(stack: SwarmStack, other: bool) -> dict[str, str]:
    """Of all containers of one node, by container."""
    on, services = (second, ("peer",)) if other else (docker, ("peer", "aggregator", "registry"))
    return {
        container: key_text(on("exec", container, "cat", "/var/lib/smpcfl/key.pem"))
        for service in services
        for container in stack.containers(service, other)
    }


def key_text(pem: str) -> str:
    """A line of the key's file that is in no other file."""
    line = pem.splitlines()[2]
    assert len(base64.b64decode(line + "=" * (-len(line) % 4))) > 30
    return line


def found_on_disk(on: Callable[..., str], secrets: set[str]) -> set[str]:
    """Which of the texts are in a file of that engine, whatever it is."""
    folder = on("info", "-f", "{{.DockerRootDir}}").strip()
    patterns = [part for secret in secrets for part in ("-e", secret)]
    # Not layers once more as they are mounted, nor what images have, nor what is given in memory.
    left_out = [f"--exclude-dir={name}" for name in ("merged", "site-packages", "mounts")]
    command = ["grep", "-rahoF", "--devices=skip", *left_out, *patterns, folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    return set(done.stdout.split())


def test_ten_rounds_with_a_drained_node_and_a_rolling_update(stack: SwarmStack) -> None:
    docker("tag", PEER_IMAGE, NEXT_IMAGE)
    load(NEXT_IMAGE)
    run = Run(stack, ROUNDS)
    run.wait_for(2)
    docker("node", "update", "--availability", "drain", stack.other)
    run.wait_for(3)
    all_there(stack)
    assert stack.running() == {stack.this: PEERS, stack.other: 0}
    docker("node", "update", "--availability", "active", stack.other)
    update = ("--image", NEXT_IMAGE, "--no-resolve-image", "--detach", "smpcfl_peer")
    docker("service", "update", *update)
    updated_at = len(run.records())
    found = run.end()
    assert found[0]["survivors"] == PEERS
    assert updated_at < ROUNDS - 2, "else the update would have had no round to disturb"
    assert found[updated_at]["outcome"] == "complete", "the round in hand stands one peer's update"
    wait(lambda: update_state() == "completed", PATIENCE_S, stack.tasks)
    images = ("ps", "-f", "desired-state=running", "--format", "{{.Image}}", "smpcfl_peer")
    assert docker("service", *images).split() == [NEXT_IMAGE] * PEERS
    all_there(stack)
    assert stack.running() == {stack.this: PEERS // 2, stack.other: PEERS // 2}


def update_state() -> str:
    return docker("service", "inspect", "-f", "{{.UpdateStatus.State}}", "smpcfl_peer").strip()


def test_a_link_that_is_down_for_a_minute_loses_no_run(stack: SwarmStack) -> None:
    run = Run(stack, FEWER_ROUNDS)
    run.wait_for(1)
    set_link("down")
    try:
        time.sleep(DOWN_S)  # the fault itself: how long it lasts
    finally:
        set_link("up")
    run.end()
    all_there(stack)


def set_link(state: str) -> None:
    subprocess.run(["ip", "link", "set", link(), state], check=True, timeout=10)


def test_what_is_not_published_is_seen_from_a_container_of_the_operators(stack: SwarmStack) -> None:
    look = (
        "import urllib.request as u;"
        # What a browser says that goes by a forwarder on its own machine.
        "asked = u.Request('http://aggregator:9103/', headers={'Host': '127.0.0.1:9103'});"
        "print(u.urlopen(asked, timeout=10).read().decode())"
    )
    run = ("run", "--rm", "--network", "smpcfl_default", "--entrypoint", "python")

    def shown() -> bool:
        """The aggregator asks the roster anew once somebody looks."""
        page = docker(*run, f"smpcfl-registry:{__version__}", "-c", look)
        assert "seeded" in page
        return all(peer in page for peer in stack.roster())

    wait(shown, 120, stack.tasks)
    for service in ("registry", "aggregator", "peer", "prometheus"):
        ports = docker("service", "inspect", "-f", "{{json .Endpoint.Ports}}", f"smpcfl_{service}")
        assert ports.strip() == "null", service


def test_over_the_link_went_vxlan_and_inside_it_tls(stack: SwarmStack, capture: TcpDump) -> None:
    assert "\n0 packets dropped by kernel" in capture.stop()
    found = Capture(capture.file)
    between_engines = {"tcp 2377", "tcp 7946", "udp 7946", "udp 4789"}
    others = {kind for kind in found.kinds if "ARP" not in kind}
    assert others <= between_engines | {"IP ICMP"}, found.kinds
    read = captured = 0
    plain = b""
    for stream in found.inner:
        data = stream.data()
        if stream.ports & METRICS:
            plain += not_tls(data)
            continue
        assert stream.ports & SERVICE_PORTS, stream
        assert not not_tls(data), (stream.source, stream.target, not_tls(data))
        read += len(data)
        captured += sum(map(len, stream.segments.values()))
    # Where the link was down a connection has a gap, behind which nobody knows where a record begins.
    assert read > 10e6
    assert read > 0.8 * captured, (read, captured)
    assert b"HTTP/1" in plain, "so what is no TLS is found"
