"""Peers in memory behind Flower's grid, and what a ServerApp finds where it is started."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest
from flwr.supercore.task_identity import TaskIdentity

from smpcfl.flower.server import progress, replies, service_link, strategy
from smpcfl.flower.server.drawn_groups import DrawnGroups
from smpcfl.flower.server.service_link import STATE_VARIABLE, Server
from support.flower_peers import FlowerPeers, MakePeers


@pytest.fixture
def make_peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakePeers:
    """The peers of the one deployment that this process is the ServerApp of."""

    def make(count: int) -> FlowerPeers:
        peers = FlowerPeers(count, tmp_path)
        peers.keep_state(tmp_path / "aggregator")
        monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "aggregator"))
        monkeypatch.setattr(Server, "report", lambda _, event: peers.reported.append(event))
        monkeypatch.setattr(Server, "probe", lambda _, asked: peers.probe(asked))
        monkeypatch.setattr(service_link, "Unmasking", peers.unmasking)
        monkeypatch.setattr(DrawnGroups, "now", lambda _: peers.groups)
        monkeypatch.setattr(time, "sleep", peers.sleep)
        monkeypatch.setattr(strategy, "at_exit", lambda flush: None)
        return peers

    for name in ("_task_id", "_run_id", "_node_id"):  # Flower's messages want to know
        monkeypatch.setattr(TaskIdentity, name, 1)
    monkeypatch.setattr(replies, "_LOOK_S", 0.01)
    monkeypatch.setattr(progress, "_started", set())
    return make


@pytest.fixture(autouse=True)
def _forwards_no_log_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("smpcfl"), "handlers", [])
