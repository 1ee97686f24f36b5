"""What the registry's replies leave in the directory."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from smpc.v1 import registry_pb2 as pb
from smpcfl.base.metrics import Metrics
from smpcfl.base.state import State
from smpcfl.net import versions
from smpcfl.net.directory import Directory
from smpcfl.net.versions import Spoken
from smpcfl.registry.authority import Authority

pytestmark = pytest.mark.sockets


def roster(version: int, *peers: str) -> pb.Roster:
    entries = [pb.Entry(peer=peer, address=f"{peer}:9300") for peer in peers]
    return pb.Roster(version=version, entries=entries)


async def test_who_left_is_not_counted_but_may_still_be_found(tmp_path: Path) -> None:
    own = Authority(tmp_path / "state", tmp_path / "join").own_identity(["localhost"])
    cache = State(tmp_path).roster
    directory = Directory(own, "localhost:1", cache)
    directory.take(roster(1, "a", "b", "c"))
    directory.take(roster(2, "c"))
    assert directory.registered == 1
    directory.take(pb.Roster(version=2, unchanged=True))
    assert directory.registered == 1
    assert directory.addresses("a") == ["a:9300"]
    await directory.close()
    started_again = Directory(own, "localhost:1", cache)
    assert started_again.addresses("c") == ["c:9300"]
    assert started_again.registered == 0, "the registry has told nothing yet"
    await started_again.close()


async def test_the_time_in_a_reply_is_no_reason_to_write_the_roster_again(tmp_path: Path) -> None:
    own = Authority(tmp_path / "state", tmp_path / "join").own_identity(["localhost"])
    cache = State(tmp_path).roster
    directory = Directory(own, "localhost:1", cache)
    written = set()
    for time_ms in (1, 2):
        told = roster(1, "a")
        told.time_ms = time_ms
        directory.take(told)
        written.add(cache.stat().st_mtime_ns)
    assert len(written) == 1
    await directory.close()


async def test_a_peer_says_once_that_the_aggregator_speaks_another_protocol(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = Authority(tmp_path / "state", tmp_path / "join").own_identity(["localhost"])
    directory = Directory(own, "localhost:1", State(tmp_path).roster, Metrics("seeded"))
    caplog.set_level(logging.WARNING, logger="smpcfl")
    told = roster(1, "a")
    for protocol in (0, 2, 3, 3, 2, 3):
        told.version += 1
        told.aggregator_software, told.aggregator_protocol = "0.9.0", protocol
        directory.take(told)
    assert len(caplog.messages) == 2
    assert (
        "the aggregator is smpcfl 0.9.0, protocol 3, and this service smpcfl" in caplog.messages[0]
    )
    await directory.close()


def test_of_the_kept_roster_those_that_speak_another_protocol_are_found(tmp_path: Path) -> None:
    kept = tmp_path / "roster"
    assert versions.kept_others(kept) == {}
    told = roster(1, "older", "same", "newer")
    for entry, protocol in zip(told.entries, (0, 2, 3), strict=True):
        entry.protocol, entry.software = protocol, f"0.{protocol}.0"
    kept.write_bytes(told.SerializeToString())
    assert versions.kept_others(kept) == {"newer": Spoken("0.3.0", 3)}
    kept.write_bytes(b"\xff")
    assert versions.kept_others(kept) == {}


def test_a_line_names_a_few_and_counts_the_rest() -> None:
    many = {f"p{number:02}": Spoken("9", 2**32 - 1) for number in range(11)}
    text = versions.named(many)
    assert text.startswith("p00 (smpcfl 9, protocol 4294967295), p01 ")
    assert text.endswith("p07 (smpcfl 9, protocol 4294967295), 3 more")
