"""The hub's own process: it answers as the hub does, says what went wrong, and ends with its parent."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from smpcfl.net import hub_socket
from smpcfl.protocol.errors import LocalError, Reason, RemoteError
from smpcfl.protocol.messages import Survivors
from smpcfl.simulation.hub_process import HubProcess

pytestmark = pytest.mark.commands
RUN = 12
# Prints the hub's process id once it is there, and waits to be killed.
PARENT = f"""
import sys
from smpcfl.net import hub_socket
hub_socket.tempfile.tempdir = sys.argv[1]
from smpcfl.simulation.hub_process import HubProcess
print(HubProcess({RUN}, "seeded", bytes(32))._process.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Short enough for a Unix socket."""
    found = tmp_path_factory.mktemp("s")
    monkeypatch.setattr(hub_socket.tempfile, "tempdir", str(found))
    return found


@pytest.fixture
def process() -> Iterator[HubProcess]:
    found = HubProcess(RUN, "seeded", bytes(32))
    yield found
    found.close()


def test_it_answers_as_the_hub_does(process: HubProcess) -> None:
    assert process.hub.join([20, 10]) == {10: "peer-00000", 20: "peer-00001"}
    assert sorted(process.hub.public_keys()) == ["aggregator", "peer-00000", "peer-00001"]
    unknown = Survivors(bytes(32), (), (), bytes(32), bytes(64))
    with pytest.raises(RemoteError) as raised:
        process.hub.unmask(unknown)
    assert raised.value.reason is Reason.UNKNOWN_TICKET


def test_it_ends_when_it_is_closed() -> None:
    process = HubProcess(RUN, "seeded", bytes(32))
    process.close()
    assert process._process.returncode == 0


def test_it_ends_with_a_parent_that_is_killed(folder: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with parent:
        assert parent.stdout is not None
        hub = int(parent.stdout.readline())
        gone = os.pidfd_open(hub)
        parent.send_signal(signal.SIGKILL)
    ended, _, _ = select.select([gone], [], [], 60)
    assert ended, "the hub goes on"
    os.close(gone)


def test_why_it_does_not_start_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = folder / "nowhere"
    monkeypatch.setattr(hub_socket, "make", lambda run: (nowhere / "hub", nowhere / "server"))
    with pytest.raises(LocalError, match="does not start") as raised:
        HubProcess(RUN, "seeded", bytes(32))
    assert "No such file or directory" in str(raised.value)


def test_what_is_printed_before_it_is_ready_does_not_stop_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    HubProcess(RUN, "seeded", bytes(32)).close()


def test_one_that_is_killed_is_named() -> None:
    process = HubProcess(RUN, "seeded", bytes(32))
    process._process.kill()
    process._process.wait()
    with pytest.raises(LocalError, match="has ended, with code -9"):
        process.hub.join([1])
    process.close()
