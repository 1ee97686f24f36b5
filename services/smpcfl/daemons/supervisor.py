"""Runs Flower's daemons as children: restarts what exits, and leaves no process behind."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from ..base.log_events import LogEvent, about
from ..base.waiting import wait_for

log = logging.getLogger("smpcfl.supervisor")
_RESTART_S = (1.0, 2.0, 5.0, 10.0)
_STABLE_S = 30.0
_TERM_S = 5.0
_EXECUTOR = "flower-superexec"


def flower_environment(home: Path) -> dict[str, str]:
    """Flower without telemetry, update check or run-time installation, its files under `home`."""
    home.mkdir(parents=True, exist_ok=True)
    return {
        **os.environ,
        # Flower starts its own children by bare name.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",
        "PYTHONUNBUFFERED": "1",
        # glibc: what held a model goes back to the system when it is freed. Else each of Flower's threads
        # keeps some for its next one, and a ServerApp is half as large again.
        "MALLOC_MMAP_THRESHOLD_": os.environ.get("MALLOC_MMAP_THRESHOLD_", "1048576"),
    }


class Child:
    """One daemon in a session of its own, started again with a growing pause when it exits.

    And when it has lost its executor, without which no app runs: Flower's daemons start one each, and
    do not notice when it dies. `starts` counts. `before` is done before each start. `folder`: its working
    directory, and that of the apps that it runs; None: this process's.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        log_path: Path,
        *,
        before: Callable[[asyncio.Event], Awaitable[None]] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.name = name
        self.starts = 0
        self._command = list(command)
        self._environment = dict(environment)
        self._log_path = log_path
        self._before = before
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self._groups: set[int] = set()
        self._executors: set[int] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`. Returns after all of its process groups are gone."""
        failures = 0
        loop = asyncio.get_running_loop()
        try:
            while not stop.is_set():
                if self._before is not None:
                    await self._before(stop)
                    if stop.is_set():
                        break
                started = loop.time()
                await self._start()
                assert self._process is not None
                waiting = [
                    asyncio.create_task(self._process.wait()),
                    asyncio.create_task(stop.wait()),
                ]
                while not any(task.done() for task in waiting):
                    self._note_groups()
                    if self._lost_executor():
                        log.warning(
                            "%s has lost its %s",
                            self.name,
                            _EXECUTOR,
                            extra=about(LogEvent.CHILD_RESTARTED),
                        )
                        self._process.kill()
                    await asyncio.wait(waiting, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
                for task in waiting:
                    task.cancel()
                if stop.is_set():
                    break
                failures = 0 if loop.time() - started > _STABLE_S else failures + 1
                pause = _RESTART_S[min(max(failures, 1), len(_RESTART_S)) - 1]
                log.warning(
                    "%s exited with code %s (its log: %s); starting it again in %.0f s",
                    self.name,
                    self._process.returncode,
                    self._log_path,
                    pause,
                    extra=about(LogEvent.CHILD_RESTARTED),
                )
                self._kill(signal.SIGKILL)
                await wait_for(stop, pause)
        finally:
            await self._end()

    async def _start(self) -> None:
        self._log_path.parent.mkdir(parents=True, exist_ok=True)
        # -P: it imports nothing from its working directory, where apps may write.
        daemon = [sys.executable, "-P", "-m", "smpcfl.daemons.entry", str(os.getpid())]
        with self._log_path.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *daemon,
                *self._command,
                env=self._environment,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._groups = {self._process.pid}
        self._executors = set()
        self.starts += 1

    def _note_groups(self) -> None:
        """Flower's SuperLink starts its executor in a session of its own: found while it is our child."""
        if self._process is not None:
            self._groups |= {
                os.getpgid(pid) for pid in descendants(self._process.pid) if _exists(pid)
            }

    def _lost_executor(self) -> bool:
        assert self._process is not None
        started = {pid for pid in children(self._process.pid) if _EXECUTOR in command_of(pid)}
        self._executors |= started
        return any(_EXECUTOR not in command_of(pid) for pid in self._executors)

    def _kill(self, number: signal.Signals) -> None:
        for group in self._groups - {os.getpgid(0)}:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, number)

    async def _end(self) -> None:
        if self._process is None:
            return
        self._note_groups()
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), _TERM_S)
        self._kill(signal.SIGKILL)
        await self._process.wait()


def descendants(pid: int) -> list[int]:
    """Process ids of the children of `pid`, and theirs."""
    found: list[int] = []
    for child in children(pid):
        found += [child, *descendants(child)]
    return found


def children(pid: int) -> list[int]:
    """Process ids; none where the system does not show them."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):  # it ended since
                text = Path(f"/proc/{pid}/task/{thread}/children").read_text()
                found += map(int, text.split())
    return found


def command_of(pid: int) -> str:
    """Its command line, words divided by NUL; empty once it is dead, reaped or not."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


def _exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
