"""What the registry's replies leave in the directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from smpc.v1 import registry_pb2 as pb
from smpcfl.base.state import State
from smpcfl.net.directory import Directory
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
