"""Daemons do not outlive the service that started them, however that ends."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from smpcfl.base.waiting import wait_for
from smpcfl.daemons.supervisor import Child, children, command_of, descendants

pytestmark = pytest.mark.processes

SERVICE = """
import asyncio, os, sys
from pathlib import Path
from smpcfl.daemons.supervisor import Child
daemon = Child("daemon", ["sleep", "1000"], os.environ, Path(sys.argv[1]))
asyncio.run(daemon.run(asyncio.Event()))
"""


HALF_DEAD = """
import sys, threading, time
def fail():
    raise RuntimeError(sys.argv)
def wait():
    time.sleep(1000)
def main():
    first, second = (wait, fail) if sys.argv[1] == "main" else (fail, wait)
    threading.Thread(target=first).start()
    second()
"""
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who is whose parent")


def is_sleep(pid: int) -> bool:
    return command_of(pid).startswith("sleep")


@linux
def test_a_daemon_dies_with_a_service_that_is_killed(tmp_path: Path) -> None:
    service = subprocess.Popen([sys.executable, "-c", SERVICE, str(tmp_path / "log")])
    try:
        latest = time.monotonic() + 30
        # What Linux runs on the way to it is no `sleep` yet.
        while not (found := [pid for pid in children(service.pid) if is_sleep(pid)]):
            assert time.monotonic() < latest, "the daemon did not start"
            time.sleep(0.05)
    finally:
        service.kill()
        service.wait()
    latest = time.monotonic() + 10
    while is_sleep(found[0]):
        assert time.monotonic() < latest, "the daemon lives on"
        time.sleep(0.05)


@linux
async def test_a_daemon_that_lost_its_executor_is_started_again(tmp_path: Path) -> None:
    script = "exec -a flower-superexec sleep 1000 & exec sleep 1001"
    daemon = Child("daemon", ["bash", "-c", script], os.environ, tmp_path / "log")
    stop = asyncio.Event()
    running = asyncio.create_task(daemon.run(stop))

    def executors() -> list[int]:
        return [pid for pid in descendants(os.getpid()) if "superexec" in command_of(pid)]

    async with asyncio.timeout(30):
        for start in (1, 2):
            while daemon.starts < start or not daemon._executors:
                await wait_for(stop, 0.05)
            os.kill(executors()[0], signal.SIGKILL)
        while daemon.starts < 3:
            await wait_for(stop, 0.05)
    stop.set()
    await running
    assert executors() == []


@pytest.mark.parametrize("failing", ["main", "another"])
def test_a_daemon_ends_with_the_first_thread_that_fails(failing: str, tmp_path: Path) -> None:
    package = tmp_path / "half_dead-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: half-dead\nVersion: 1\n")
    (package / "entry_points.txt").write_text("[console_scripts]\nhalf-dead = half_dead:main\n")
    (tmp_path / "half_dead.py").write_text(HALF_DEAD)
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-m", "smpcfl.daemons.entry", str(os.getpid()), "half-dead", failing],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert f"RuntimeError: ['half-dead', '{failing}']" in done.stderr
