"""How a peer makes the key of its SuperNode known."""

from __future__ import annotations

import asyncio
import datetime
from email.utils import format_datetime
from pathlib import Path

import pytest

from smpcfl.cli.stack import free_ports
from smpcfl.daemons import node_key
from smpcfl.net import certificates
from smpcfl.net.certificates import Identity, Role
from support.enrolled import Deployment


def peer(folder: Path) -> Identity:
    return Deployment(folder).identity(Role.PEER, "a")


@pytest.mark.sockets
@pytest.mark.parametrize(
    ("path", "text"), [("node-key", "waiting for the SuperLink"), ("/proc/no/key", "cannot keep")]
)
async def test_without_a_superlink_or_room_it_says_so_and_tries_again_until_stopped(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    path: str,
    text: str,
) -> None:
    stop, waits = asyncio.Event(), []

    async def wait_for(event: asyncio.Event, seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            stop.set()

    monkeypatch.setattr(node_key, "wait_for", wait_for)
    caplog.set_level("INFO", "smpcfl.peer")
    (port,) = free_ports(1)
    await node_key.register(peer(tmp_path), f"127.0.0.1:{port}", tmp_path / path, stop)
    assert len(waits) == 3
    assert text in caplog.text


@pytest.mark.parametrize(("off_s", "said"), [(0, False), (3, False), (30, True), (-30, True)])
def test_a_clock_that_is_off_is_named(
    caplog: pytest.LogCaptureFixture, off_s: int, said: bool
) -> None:
    date = format_datetime(certificates.now() - datetime.timedelta(seconds=off_s), usegmt=True)
    node_key._check_clock(date, "aggregator:9092")
    node_key._check_clock("", "aggregator:9092")
    assert ("run NTP on both machines" in caplog.text) is said
