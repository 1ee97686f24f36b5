"""A peer whose machine gets another address while it trains: it registers anew, and rounds go on with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.federation import SERVICE, Federation
from support.namespaces import Internet, Machine, missing, variables

PEERS = 3
HUB = "198.51.100.1"

pytestmark = [
    pytest.mark.processes,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(missing()), reason=f"no network namespaces: {missing()}"),
]


@pytest.fixture
def internet(tmp_path: Path) -> Iterator[Internet]:
    with Internet(tmp_path) as made:
        yield made


def start_peer(federation: Federation, machine: Machine) -> None:
    join = federation.internet.folder / machine.name / "join"
    federation.invite(machine.name, join)
    settings = {
        "state": join.parent / "state",
        "join": join,
        "peer_id": machine.name,
        "min_cohort": PEERS,
        "tickets_per_hour": 3600,
        "mdns": "off",
    }
    machine.start(
        machine.name, *SERVICE, "peer", settings={**variables(settings), **federation.where}
    )


def test_rounds_go_on_with_a_peer_that_has_moved(internet: Internet) -> None:
    hub = internet.machine("hub", f"{HUB}/24")
    federation = Federation(internet, hub, HUB, min_peers=PEERS, rounds=100)
    peers = [
        internet.machine(f"peer-{number}", f"198.51.100.{10 + number}/24")
        for number in range(PEERS)
    ]
    for peer in peers:
        start_peer(federation, peer)
    federation.wait_for_rounds(PEERS, 1)

    moved = peers[0]
    moved("ip", "address", "add", "198.51.100.99/24", "dev", "out")
    moved("ip", "address", "del", "198.51.100.10/24", "dev", "out")
    # The second address of a network goes with the first one, unless it takes its place.
    moved("ip", "address", "replace", "198.51.100.99/24", "dev", "out")

    def registered() -> bool:
        return "peer peer-0 is at 198.51.100.99:9300" in internet.log("registry")

    federation.wait(registered, 120, "the registration of the new address")
    assert "this peer is at 198.51.100.99:9300 now" in internet.log("peer-0")
    federation.wait_for_rounds(PEERS, 2)
