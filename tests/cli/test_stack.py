"""A signal at any moment ends the local stack, and leaves no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smpcfl.cli.stack import Stack

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.commands
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_while_a_child_starts_leaves_none(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    children: list[subprocess.Popen[bytes]] = []
    start = subprocess.Popen

    def interrupted(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        children.append(start(["sleep", "600"], **options))
        os.kill(os.getpid(), number)
        return children[-1]

    monkeypatch.setattr(subprocess, "Popen", interrupted)
    with pytest.raises(KeyboardInterrupt), Stack(tmp_path, "seeded", 3, 1, 1):
        pytest.fail("it went on")
    (child,) = children
    ended = child.poll()
    child.kill()
    child.wait()
    assert ended == -signal.SIGTERM, "ended the orderly way: it holds no signal back"


def test_a_hangup_that_is_ignored_stays_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stack, "_start", lambda stack: None)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with Stack(tmp_path, "seeded", 3, 1, 1):
        os.kill(os.getpid(), signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
