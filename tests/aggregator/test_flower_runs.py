"""Flower's command line: what it prints of a run, and when it does not answer."""

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


@pytest.mark.commands
async def test_no_answer_is_an_error_and_nothing_is_left(
    started: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CALL_S", 0.0)
    runs = Runs(tmp_path, 1, "127.0.0.1")
    with pytest.raises(LocalError, match="flwr list: no answer within 0 s"):
        await runs.statuses()
    assert await runs.last_words("1") == "flwr log: no answer within 0 s"
    assert [process.returncode for process in started.processes] == [-9, -9]


@pytest.mark.commands
async def test_nothing_is_left_of_a_cancelled_call(started: Started, tmp_path: Path) -> None:
    call = asyncio.create_task(Runs(tmp_path, 1, "127.0.0.1").statuses())
    await started.first.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert started.processes[0].returncode == -9


def answering(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Runs:
    """With a `flwr` that is this script."""
    flwr = folder / "flwr"
    flwr.write_text(f"#!/bin/sh\n{script}\n")
    flwr.chmod(0o755)
    monkeypatch.setattr("smpcfl.daemons.supervisor.sys.executable", str(folder / "python"))
    return Runs(folder, 9, "127.0.0.1")


@pytest.mark.commands
async def test_what_a_run_prints_comes_without_flowers_own_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        "echo 'Using SuperLink: x'; echo 'INFO: Starting logstream for run_id `7`'; printf 'a\\nb'"
    )
    runs = answering(tmp_path, monkeypatch, script)
    assert "".join([text async for text in runs.output("7")]) == "a\nb"


@pytest.mark.commands
async def test_a_superlink_that_is_not_there_is_named_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = answering(tmp_path, monkeypatch, f"echo '{module._UNAVAILABLE}. Please'; exit 1")
    with pytest.raises(LocalError) as caught:
        await runs.listed()
    assert str(caught.value).startswith("no SuperLink at 127.0.0.1:9: ")
    assert "\n" not in str(caught.value)


@pytest.mark.sockets
def test_the_words_are_flowers_own() -> None:
    from flwr.cli import utils

    assert module._UNAVAILABLE in utils.SUPERLINK_UNAVAILABLE_MESSAGE


TRACEBACK = """\x1b[91mERROR \x1b[0m:     ServerApp raised an exception
Traceback (most recent call last):
  File "app.py", line 1, in main
{}: x
"""
ADVICE = """\x1b[91mERROR \x1b[0m:     Exit Code: 201

For more information, visit: <https://example.org>
"""


def test_why_an_app_raised_is_its_traceback_and_of_ours_the_text_alone() -> None:
    details, begin = "ServerApp failed with exception: x", "Using SuperLink\n"
    words = begin + TRACEBACK.format("ValueError") + ADVICE
    assert module.why_raised(details, words) == (
        'x\nTraceback (most recent call last):\n  File "app.py", line 1, in main\nValueError: x'
    )
    ours = begin + TRACEBACK.format("smpcfl.protocol.errors.LocalError") + ADVICE
    assert module.why_raised(details, ours) == "x"
    assert module.why_raised(details, "cut short") == "x\ncut short"


@pytest.mark.parametrize(
    ("details", "words", "expected"),
    [
        ("ServerApp failed with exception: x", "ValueError: x\n", True),
        ("ServerApp failed with exception: x", "httpx.ConnectError: x\n", False),
        ("Task failed with unknown error.", "", False),
        ("", "ValueError: x\n", False),
    ],
)
def test_an_exception_of_the_apps_own_is_told_from_an_accident(
    details: str, words: str, expected: bool
) -> None:
    assert module.raised(details, words) is expected
