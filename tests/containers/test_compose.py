"""The Compose stack on a real engine: what a user would see. Grafana's image is not needed."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections.abc import Iterator
from statistics import median
from typing import Any

import pytest

from smpcfl.reports.live_runs import read_state
from smpcfl.reports.snapshot import Snapshot
from support.compose import Compose, docker, engine_missing, wait

PEERS = 6
ROUNDS = 2
FEW = 5  # where another mode is tried: as few as peers agree to here
SERVICES = ("registry", "aggregator", "peer", "prometheus")

pytestmark = [
    pytest.mark.containers,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(bool(engine_missing()), reason=f"no Docker engine: {engine_missing()}"),
]


def query(expression: str) -> list[dict[str, Any]]:
    text = urllib.parse.urlencode({"query": expression})
    with urllib.request.urlopen(f"http://127.0.0.1:9090/api/v1/query?{text}", timeout=5) as reply:
        result: list[dict[str, Any]] = json.loads(reply.read())["data"]["result"]
        return result


def run_mode(
    mode: str, *files: str, peers: int = PEERS, services: tuple[str, ...] = SERVICES
) -> Iterator[Compose]:
    """With `files` of its own, a mode is theirs to set."""
    environment = {"SMPCFL_MIN_PEERS": str(peers), "SMPCFL_ROUNDS": str(ROUNDS)}
    if not files:
        environment["SMPCFL_MODE"] = mode
    compose = Compose(f"smpcfl-test-{mode}", *files, **environment)
    try:
        compose("build", "registry", "aggregator", "peer")
        compose("up", "-d", "--scale", f"peer={peers}", *services)
        compose.wait_for_log("accuracy", ROUNDS)
        yield compose
    finally:
        compose("down", "-v", "--timeout", "5", check=False)


@pytest.fixture(scope="module")
def seeded() -> Iterator[tuple[Compose, list[dict[str, Any]]]]:
    for compose in run_mode("seeded"):
        yield compose, compose.records()


def test_seeded_trains_with_six_peers(seeded: tuple[Compose, list[dict[str, Any]]]) -> None:
    _, records = seeded
    assert [r["outcome"] for r in records] == ["complete"] * ROUNDS
    assert all(r["survivors"] == PEERS for r in records)
    assert records[-1]["accuracy"] > records[0]["accuracy"] - 0.005
    assert records[-1]["accuracy"] > 0.88
    # The aim is 1 kB for each neighbour; on a busy machine calls time out and are made again.
    assert 0 < median(r["bytes_p2p"] for r in records) <= 1200 * (PEERS - 1), records


def test_peers_are_discovered_by_mdns_and_scraped(
    seeded: tuple[Compose, list[dict[str, Any]]],
) -> None:
    compose, _ = seeded

    def scraped() -> bool:
        return len(query('up{job="peer"} == 1')) == PEERS

    wait(scraped, 60, lambda: str(query("up")))
    found = query('smpcfl_peers_discovered{via="mdns",job="peer"}')
    assert [float(item["value"][1]) for item in found] == [float(PEERS)] * PEERS
    assert len(query('smpcfl_bytes_total{channel="p2p",direction="out",job="peer"} > 0')) == PEERS
    assert query('up{job="aggregator"} == 1')
    assert query('up{job="registry"} == 1')
    status = compose("exec", "-T", "aggregator", "smpcfl", "status")
    assert status.count("yes") == PEERS


def test_the_live_page_is_on_loopback_with_what_travels_between_peers(
    seeded: tuple[Compose, list[dict[str, Any]]],
) -> None:
    _, records = seeded

    def now() -> Snapshot:
        with urllib.request.urlopen("http://127.0.0.1:9103/state", timeout=5) as reply:
            return read_state(reply.read())["seeded"]

    # The agents are asked once somebody looks.
    wait(lambda: len(now().flows) == PEERS * (PEERS - 1), 60, lambda: str(now()))
    found = now()
    assert [peer.via for peer in found.peers] == ["mDNS and registry"] * PEERS
    assert [json.loads(record.to_json()) for record in found.records] == records
    uploads = sum(record.bytes_up - record.unmask_up for record in found.records)
    sent = [peer.flower_out for peer in found.peers]
    assert all(uploads * 0.95 < bytes_ < uploads * 1.2 for bytes_ in sent), (sent, uploads)
    with urllib.request.urlopen("http://127.0.0.1:9103/", timeout=5) as reply:
        page = reply.read().decode()
    assert "seeded" in page
    assert all(peer.name in page for peer in found.peers)


CONTROL = "https://aggregator:9092/v1/control/list-runs"
POST = """
import ssl, sys, urllib.request as u
context = ssl.create_default_context(cafile='/run/smpcfl/join/ca.pem')
try:
    print(u.urlopen(u.Request(sys.argv[1], data=b''), timeout=5, context=context).status)
except u.HTTPError as error:
    print(error.code, error.read().decode())
except OSError as error:
    print(type(error).__name__)
"""


def test_containers_are_confined(seeded: tuple[Compose, list[dict[str, Any]]]) -> None:
    compose, _ = seeded
    ids = compose("ps", "-q").split()
    found = json.loads(docker("inspect", *ids))
    assert len(found) == PEERS + len(SERVICES) - 1
    for container in found:
        host, name = container["HostConfig"], container["Name"]
        assert container["Config"]["User"] not in ("", "0", "root"), name
        assert host["ReadonlyRootfs"], name
        assert host["CapDrop"] == ["ALL"], name
        assert not host["CapAdd"], name
        assert host["SecurityOpt"] == ["no-new-privileges:true"], name
        assert host["Memory"] > 0, name
        published = [item for ports in host["PortBindings"].values() for item in ports]
        assert [item["HostIp"] for item in published] == ["127.0.0.1"] * len(published), name
        assert bool(published) == ("prometheus" in name or "aggregator" in name), name
    wait(
        lambda: all(
            item["State"]["Health"]["Status"] == "healthy"
            for item in json.loads(docker("inspect", *ids))
        ),
        60,
        lambda: docker("ps"),
    )


@pytest.mark.parametrize("service", ["registry", "aggregator", "peer"])
def test_a_service_can_do_no_more_than_it_has_to(
    seeded: tuple[Compose, list[dict[str, Any]]], service: str
) -> None:
    compose, _ = seeded

    def inside(*command: str) -> str:
        return compose("exec", "-T", service, *command)

    status = dict(line.split(":", 1) for line in inside("cat", "/proc/1/status").splitlines())
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"].strip() == "1"
    assert "Read-only" in inside("sh", "-c", "touch /home/smpcfl/x 2>&1; true")
    assert (
        inside("sh", "-c", "command -v gcc cc make uv; ls -A /root/.cache 2>/dev/null; true") == ""
    )


def test_of_the_superlink_a_peer_reaches_the_fleet_api_alone(
    seeded: tuple[Compose, list[dict[str, Any]]],
) -> None:
    compose, _ = seeded

    def post(service: str, url: str) -> str:
        return compose("exec", "-T", service, "python", "-c", POST, url).strip()

    assert post("peer", CONTROL) == "403 only on the aggregator's own machine"
    assert post("peer", CONTROL.replace("control/list-runs", "fleet/pull-messages")).startswith(
        "403"
    )
    assert "403" not in post("aggregator", CONTROL.replace("//aggregator", "//localhost"))
    # No plaintext.
    assert not post("peer", CONTROL.replace("https", "http"))[:1].isdigit()


def test_additive_agrees_and_another_run_starts_without_a_restart(
    seeded: tuple[Compose, list[dict[str, Any]]],
) -> None:
    for compose, records in _beside(seeded, "additive"):
        assert all(r["bytes_p2p"] > 200_000 * (FEW - 1) for r in records)
        output = compose("exec", "-T", "aggregator", "smpcfl", "run", "--rounds", "1")
        assert "round 1/1" in output
        assert f"survivors {FEW}/{FEW}" in output


def test_plain_flower_agrees(seeded: tuple[Compose, list[dict[str, Any]]]) -> None:
    for _ in _beside(seeded, "normal", "-f", "docker-compose.normal.yml"):
        pass


def _beside(
    seeded: tuple[Compose, list[dict[str, Any]]], mode: str, *files: str
) -> Iterator[tuple[Compose, list[dict[str, Any]]]]:
    """A stack of another mode and its records, which are complete and end as those of `seeded`."""
    seeded[0]("stop", "--timeout", "5")  # two stacks at once are too much for a small machine
    for compose in run_mode(mode, *files, peers=FEW, services=("registry", "aggregator", "peer")):
        records = compose.records()
        assert all(r["mode"] == mode and r["outcome"] == "complete" for r in records)
        assert abs(records[-1]["accuracy"] - seeded[1][-1]["accuracy"]) <= 0.02
        yield compose, records
