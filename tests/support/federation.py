"""A federation's registry and aggregator on one machine of its own, and what its peers are told."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from smpcfl.aggregator import rounds_service
from smpcfl.base.state import JoinFolder, State
from smpcfl.reports.record import RoundRecord
from support.namespaces import Internet, Machine, variables

SERVICE = (sys.executable, "-m", "smpcfl")


class Federation:
    def __init__(
        self, internet: Internet, machine: Machine, address: str, min_peers: int, rounds: int
    ) -> None:
        self.internet = internet
        self.machine = machine
        self.folder = internet.folder / "federation"
        self.where = {
            "SMPCFL_REGISTRY": f"{address}:9200",
            "SMPCFL_ENROLMENT": f"{address}:9201",
            "SMPCFL_AGGREGATOR": f"{address}:9092",
        }
        self._join = self.folder / "join"
        registry = {"state": self.folder / "registry", "join": self._join, "mdns": "off"}
        machine.start("registry", *SERVICE, "registry", settings=variables(registry))
        aggregator = {
            "state": self.folder / "aggregator",
            "join": self._join / "aggregator",
            "registry": self.where["SMPCFL_REGISTRY"],
            "enrolment": self.where["SMPCFL_ENROLMENT"],
            "advertise": address,
            "metrics_port": 9110,
            "min_peers": min_peers,
            "rounds": rounds,
            "seed": 1,
        }
        machine.start("aggregator", *SERVICE, "aggregator", settings=variables(aggregator))

    def invite(self, peer: str, folder: Path) -> None:
        """`folder` gets what the federation's operator gives to whoever joins: CA and token."""
        ca = JoinFolder(self._join / "peer").ca
        self.wait(ca.exists, 60, "the registry's start")
        state = str(self.folder / "registry")
        token = self.machine.python("-m", "smpcfl", "token", "--peer", peer, "--state", state)
        folder.mkdir(parents=True)
        JoinFolder(folder).ca.write_bytes(ca.read_bytes())
        JoinFolder(folder).token.write_text(token.stdout)

    def rounds(self) -> list[RoundRecord]:
        return rounds_service.read(State(self.folder / "aggregator").records)

    def wait_for_rounds(self, survivors: int, count: int, seconds: float = 300.0) -> None:
        """Until so many more are complete with that many survivors."""
        before = len(self.rounds())

        def found() -> bool:
            new = self.rounds()[before:]
            good = [one for one in new if (one.outcome, one.survivors) == ("complete", survivors)]
            return len(good) >= count

        self.wait(found, seconds, f"{count} complete rounds with {survivors} survivors")

    def wait(self, done: Callable[[], bool], seconds: float, what: str) -> None:
        latest = time.monotonic() + seconds
        while not done():
            self.internet.check()
            assert time.monotonic() < latest, (
                f"{what} took more than {seconds:.0f} s\n{self.internet.log('aggregator')[-6000:]}"
            )
            time.sleep(0.2)
