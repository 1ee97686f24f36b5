"""Daemons do not outlive the service that started them, however that ends."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

SERVICE = """
import asyncio, os, sys
from pathlib import Path
from smpcfl.supervisor import Child
daemon = Child("daemon", ["sleep", "1000"], os.environ, Path(sys.argv[1]))
asyncio.run(daemon.run(asyncio.Event()))
"""


def children(pid: int) -> list[int]:
    """That are what the service asked for, and not on the way to it any more."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split() if command(int(child)) == "sleep"]


def command(pid: int) -> str:
    """Its first word; empty once it is dead, whether or not anybody has taken note."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[0]
    except OSError:
        return ""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone kills what lost its parent")
def test_a_daemon_dies_with_a_service_that_is_killed(tmp_path: Path) -> None:
    service = subprocess.Popen([sys.executable, "-c", SERVICE, str(tmp_path / "log")])
    try:
        latest = time.monotonic() + 30
        while not (found := children(service.pid)):
            assert time.monotonic() < latest, "the daemon did not start"
            time.sleep(0.05)
    finally:
        service.kill()
        service.wait()
    latest = time.monotonic() + 10
    while command(found[0]) == "sleep":
        assert time.monotonic() < latest, "the daemon lives on"
        time.sleep(0.05)
