"""What a user or a stranger can cause at a service: a line, and no traceback."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from smpcfl.cli.stack import free_ports

HOST = "127.0.0.1"
PORTS = ("port", "enrolment-port", "targets-port", "metrics-port")


def registry(folder: Path, *more: str) -> list[str]:
    ports = zip(PORTS, free_ports(4), strict=True)
    where = [f"--state={folder / 'state'}", f"--join={folder / 'join'}", f"--host={HOST}"]
    return [*where, *(f"--{name}={port}" for name, port in ports), *more]


def started(*options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "smpcfl", "registry", *options],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.commands
@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("--mdns=192.0.2.1", "mDNS cannot use interface '192.0.2.1'"),
        ("--host=192.0.2.1", "cannot listen on 192.0.2.1"),
        ("--log-format=xml", "SMPCFL_LOG_FORMAT"),
    ],
)
def test_what_cannot_work_is_one_line(more: str, said: str, tmp_path: Path) -> None:
    """Also where gRPC's servers run already, which would print their own."""
    with started(*registry(tmp_path, more)) as process:
        (line,) = process.communicate(timeout=60)[1].splitlines()
    assert line.startswith("smpcfl registry: ")
    assert said in line
    assert process.returncode == 1


@pytest.mark.commands
def test_a_stranger_who_hangs_up_is_no_traceback(tmp_path: Path) -> None:
    options = registry(tmp_path, "--mdns=off", "--log-format=json")
    ports = [int(option.partition("=")[2]) for option in options if "-port=" in option]
    with started(*options) as process:
        try:
            assert process.stderr is not None
            assert any('"event": "service_ready"' in line for line in process.stderr)
            for port in ports * 40:
                with socket.create_connection((HOST, port)) as stranger:
                    now = struct.pack("ii", 1, 0)  # a reset, not an end
                    stranger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)
                    stranger.sendall(b"GET /targets HTTP/1.0\r\n\r\n")
        finally:
            process.terminate()
        printed = process.communicate(timeout=60)[1]
    assert "Traceback" not in printed
    assert all(line.startswith('{"time"') for line in printed.splitlines())
    assert len(printed.splitlines()) <= 2 * 21 + 5
