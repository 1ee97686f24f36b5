"""The registry's roster: what a peer may take for known."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from smpcfl.base.state import State
from smpcfl.net import certificates
from smpcfl.net.certificates import Role
from smpcfl.registry.roster import ALIVE_S, Roster
from support.enrolled import Deployment


def test_a_peer_that_is_silent_leaves_and_has_to_register_again(tmp_path: Path) -> None:
    roster = Roster(State(tmp_path).indices, 1)
    roster.register("a", "host:1", "host:2", b"", 0.0)
    assert roster.heartbeat("a", ALIVE_S)
    assert not roster.heartbeat("a", 2 * ALIVE_S + 1)
    assert roster.entries(2 * ALIVE_S + 1) == []


def test_a_peer_that_comes_back_elsewhere_keeps_its_slice_and_changes_the_version(
    tmp_path: Path,
) -> None:
    roster = Roster(State(tmp_path).indices, 1)
    roster.register("a", "host:1", "host:2", b"", 0.0)
    index = roster.register("b", "host:3", "host:4", b"", 0.0)
    before = roster.version
    assert roster.register("b", "other:3", "other:4", b"", 1.0) == index
    assert roster.version > before
    assert [entry.address for entry in roster.entries(1.0)] == ["host:1", "other:3"]


def test_after_a_restart_no_version_is_one_of_before(tmp_path: Path) -> None:
    before = Roster(State(tmp_path).indices, 1_000)
    for name in "abc":
        before.register(name, "host:1", "host:2", b"", 0.0)
    after = Roster(State(tmp_path).indices, 2_000)
    for name in "abd":
        after.register(name, "host:1", "host:2", b"", 0.0)
    assert after.version > before.version


def test_the_aggregators_certificate_reaches_those_who_know_the_roster(tmp_path: Path) -> None:
    roster = Roster(State(tmp_path).indices, 1)
    before = roster.version
    roster.take_aggregator(b"certificate")
    assert roster.version > before
    known = roster.version
    roster.take_aggregator(b"certificate")
    assert roster.version == known


def test_an_older_certificate_replaces_no_newer_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = Deployment(tmp_path)
    newer = deployment.certificate(Role.AGGREGATOR, "aggregator")
    monkeypatch.setattr(certificates, "BACKDATE", datetime.timedelta(hours=1))
    older = deployment.certificate(Role.AGGREGATOR, "aggregator")
    roster = Roster(State(tmp_path).indices, 1)
    for shown, kept in ((older, older), (newer, newer), (older, newer)):
        roster.take_aggregator(shown)
        assert roster.aggregator_certificate == kept
        roster.register("a", "host:1", "host:2", shown, 0.0)
        assert [entry.certificate for entry in roster.entries(0.0)] == [kept]
