"""A test without a marker that opens a socket or starts a process fails, whatever else it finds."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
HEAD = """
import asyncio, grpc, os, socket, subprocess
import pytest
"""
LISTEN = "socket.create_server(('127.0.0.1', 0)).close()"
RUN = "subprocess.run(['true'])"
BODIES = {
    "listens": LISTEN,
    "connects": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('127.0.0.1', 9))",
    "unix": "socket.socket(socket.AF_UNIX).bind('here')",
    "calls": "grpc.insecure_channel('127.0.0.1:9').close()",
    "serves": "grpc.server(None)",
    "calls_later": "asyncio.run(later(lambda: grpc.aio.insecure_channel('127.0.0.1:9').close()))",
    "serves_later": "asyncio.run(later(lambda: grpc.aio.server().stop(0)))",
    "runs": RUN,
    "runs_later": "asyncio.run(later(lambda: asyncio.create_subprocess_exec('true')))",
    "forks": "os.fork() or os._exit(0)",
}
GOOD = {
    "pairs": "[end.close() for end in socket.socketpair()]",
    "loops": "asyncio.run(asyncio.sleep(0))",
    "tool": "subprocess.run(['uname'], capture_output=True)",
}
MARKED = {"sockets": LISTEN, "commands": f"{RUN}; {LISTEN}", "processes": f"{RUN}; {LISTEN}"}
FIXTURE = f"""
async def later(act):
    await act()

@pytest.fixture
def opened():
    {LISTEN}

def test_fixture(opened):
    pass
"""


@pytest.mark.commands
def test_it_fails_unless_it_is_marked_for_what_it_does(tmp_path: Path) -> None:
    tests = {name: f"def test_{name}():\n    {body}\n" for name, body in {**BODIES, **GOOD}.items()}
    tests["wrongly"] = f"@pytest.mark.sockets\ndef test_wrongly():\n    {RUN}\n"
    for marker, body in MARKED.items():
        tests[marker] = f"@pytest.mark.{marker}\ndef test_{marker}():\n    {body}\n"
    (tmp_path / "test_it.py").write_text(HEAD + FIXTURE + "\n".join(tests.values()))
    shutil.copy(TESTS / "conftest.py", tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-rE", "test_it.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    failed = {line.split("::test_")[1].split()[0] for line in lines if line.startswith("ERROR ")}
    assert failed == {*BODIES, "wrongly", "fixture"}, done.stdout
