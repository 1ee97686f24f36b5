"""The Compose stack on a real Docker engine, for the tests of the containers."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# What Compose takes without `-f`; with one, all have to be named.
ONE_MACHINE = ("-f", "docker-compose.yml", "-f", "docker-compose.override.yml")


@cache
def engine_missing() -> str:
    """Why there is no Compose v2 on a Docker engine here; empty if there is."""
    for command in (["docker", "info"], ["docker", "compose", "version"]):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{' '.join(command)}: {error}"
        if done.returncode:
            return f"{' '.join(command)}: {done.stderr.strip()[-200:]}"
    return ""


class Compose:
    """One project, with names and an environment of its own."""

    def __init__(self, project: str, *files: str, **environment: str) -> None:
        self.project = project
        self.command = ["docker", "compose", "-p", project, *files]
        # The base image's own torch, where one was put there for a machine without PyTorch's index.
        backend = os.environ.get("TORCH_BACKEND") or ("" if _base_has_wheels() else "cpu")
        self.environment = {**os.environ, "TORCH_BACKEND": backend, **environment}

    def __call__(self, *arguments: str, check: bool = True, seconds: float = 900) -> str:
        done = subprocess.run(
            [*self.command, *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
        return done.stdout

    def wait_for_log(self, text: str, count: int = 1, seconds: float = 900) -> str:
        """The aggregator's log with the text in it. As long as the slowest machine may need for that."""

        log = ""

        def found() -> bool:
            nonlocal log
            log = self("logs", "--no-color", "aggregator")
            assert " failed; start the aggregator again" not in log, log[-6000:]
            return log.count(text) >= count

        wait(found, seconds, lambda: self("logs", "--no-color", "--tail", "40"))
        return log

    def records(self) -> list[dict[str, Any]]:
        text = self("exec", "-T", "aggregator", "cat", "/var/lib/smpcfl/records.jsonl")
        return [json.loads(item) for item in text.splitlines()]


def docker(*arguments: str, check: bool = True, seconds: float = 120) -> str:
    done = subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, timeout=seconds, check=False
    )
    assert not check or done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr[-2000:]}"
    return done.stdout


def wait(
    done: Callable[[], bool], seconds: float, describe: Callable[[], str], every: float = 1.0
) -> None:
    latest = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < latest, describe()[-6000:]
        time.sleep(every)


def _base_has_wheels() -> bool:
    command = [
        "docker",
        "image",
        "inspect",
        "python:3.11-slim-bookworm",
        "--format",
        "{{.Config.Env}}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "UV_FIND_LINKS" in done.stdout
