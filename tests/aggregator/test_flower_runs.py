"""Flower's command line, when it does not answer."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from smpcfl.aggregator import flower_runs as module
from smpcfl.aggregator.flower_runs import Runs
from smpcfl.protocol.errors import LocalError


class Started:
    """What was started, and when."""

    def __init__(self) -> None:
        self.processes: list[asyncio.subprocess.Process] = []
        self.first = asyncio.Event()


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Started:
    """A `flwr` that hangs."""
    flwr = tmp_path / "flwr"
    flwr.write_text("#!/bin/sh\nexec sleep 600\n")
    flwr.chmod(0o755)
    monkeypatch.setattr("smpcfl.daemons.supervisor.sys.executable", str(tmp_path / "python"))
    started, start = Started(), asyncio.create_subprocess_exec

    async def noted(*arguments: Any, **options: Any) -> asyncio.subprocess.Process:
        process = await start(*arguments, **options)
        started.processes.append(process)
        started.first.set()
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", noted)
    return started


async def test_no_answer_is_an_error_and_nothing_is_left(
    started: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CALL_S", 0.0)
    runs = Runs(tmp_path, 1)
    with pytest.raises(LocalError, match="flwr list: no answer within 0 s"):
        await runs.statuses()
    assert await runs.last_words("1") == "flwr log: no answer within 0 s"
    assert [process.returncode for process in started.processes] == [-9, -9]


async def test_nothing_is_left_of_a_cancelled_call(started: Started, tmp_path: Path) -> None:
    call = asyncio.create_task(Runs(tmp_path, 1).statuses())
    await started.first.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert started.processes[0].returncode == -9
