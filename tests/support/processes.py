"""What a user sees of a stack of local processes."""

from __future__ import annotations

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
