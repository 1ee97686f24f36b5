"""What a user sees of a stack of local processes."""

from __future__ import annotations

import os
import signal
import subprocess
import urllib.request

from smpcfl.cli.stack import LOOPBACK, Stack


def page(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://{LOOPBACK}:{port}{path}", timeout=5) as reply:
        return str(reply.read().decode())


def option(stack: Stack, name: str, key: str) -> int:
    """A port that a process was started with."""
    arguments = stack._processes[name].args
    assert isinstance(arguments, list)
    return int(arguments[arguments.index(key) + 1])


def kill(stack: Stack, name: str) -> None:
    """With all that it started."""
    process = stack._processes[name]
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def start_again(stack: Stack, name: str) -> None:
    """As it was started."""
    with (stack.folder / f"{name}.log").open("ab") as output:
        stack._processes[name] = subprocess.Popen(
            stack._processes[name].args,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
