"""Runs of one mode after another in one Compose project, as somebody makes them who compares modes.

The stack is taken down in between, and Prometheus keeps its volume. Grafana's image is not needed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from support.compose import Compose, wait
from support.dashboards import SCRAPE_S, Prometheus, Window

_SERVICES = ("registry", "aggregator", "peer", "prometheus")


@dataclass(frozen=True)
class Ran:
    """The last stack still runs, and Prometheus has all rounds of all modes."""

    prometheus: Prometheus
    window: Window
    """The time that the runs took."""
    records: Mapping[str, list[dict[str, Any]]]


@contextmanager
def runs_in_turn(project: str, rounds: Mapping[str, int], peers: int) -> Iterator[Ran]:
    """`rounds` of each mode, in this order."""
    began, prometheus = 0.0, Prometheus()
    stack = None
    try:
        for mode, number in rounds.items():
            if stack is not None:
                # As `down` does, with volumes that have no name, but not with Prometheus' own.
                stack("rm", "--stop", "--force", "-v")
            stack = Compose(
                project,
                SMPCFL_MODE=mode,
                SMPCFL_MIN_PEERS=str(peers),
                SMPCFL_ROUNDS=str(number),
            )
            stack("build", "registry", "aggregator", "peer")
            began = began or time.time()
            stack("up", "-d", "--scale", f"peer={peers}", *_SERVICES)
            stack.wait_for_log("accuracy", number)
            _scraped(prometheus, mode, number)
        assert stack is not None
        records = stack.records()
        yield Ran(
            prometheus,
            Window(began, time.time()),
            {mode: [r for r in records if r["mode"] == mode] for mode in rounds},
        )
    finally:
        if stack is not None:
            stack("down", "-v", "--timeout", "5", check=False)


def _scraped(prometheus: Prometheus, mode: str, number: int) -> None:
    """Until Prometheus has the last round of the run, and everything twice after that."""
    query = f'smpcfl_round{{job="aggregator", mode="{mode}"}} == {number}'
    wait(
        lambda: bool(prometheus.at(query, time.time())),
        60,
        lambda: str(prometheus.at("up", time.time())),
    )
    time.sleep(3 * SCRAPE_S)
