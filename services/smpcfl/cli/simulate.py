"""`smpcfl simulate`: many virtual peers in Flower's simulation engine, which runs as a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, TaskID

from ..base.config import Settings
from ..daemons.supervisor import descendants
from ..protocol.errors import LocalError
from ..reports import comparison
from ..reports.record import RoundRecord, line
from ..reports.report import Report
from ..simulation import run_folder
from ..simulation.costs import RoundCosts
from .demo import allowed, check_report, check_trained, meta, progress_bar, write_report
from .one_run import NO_ROUND, SERVER_LOG, WARNING
from .stack import end_like_ctrl_c, environment
from .wanted import Wanted

_POLL_S = 0.2
_END_S = 12.0
_TAIL = 3000  # characters


def simulate(wanted: Wanted, mode: str, lost: float, directory: Path) -> int:
    """Runs the app to its end, shows a table, leaves report.json and report.html in `directory`.

    LocalError if Ray is missing, the app cannot be run, or no round completed.
    """
    if find_spec("ray") is None:
        raise LocalError(
            "Flower's simulation engine needs ray, which is not installed: pip install 'smpcfl[simulation]'"
        )
    allowed(wanted)
    check_report(directory)
    console = Console()
    with progress_bar(console) as progress, _Simulated(progress, console, wanted, mode) as run:
        run.start(lost)
        run.follow_to_the_end()
        run.keep_output(directory / mode)
    console.print(comparison.table({mode: run.records}))
    about = {"simulated": True, "lost_share": lost, "per_peer": run.costs}
    write_report(console, directory, Report({mode: run.records}, meta(wanted) | about))
    check_trained({mode: run.records})
    return 0


class _Simulated:
    """One run of the engine. `records` and `costs` have an entry for each round. Use as a context manager."""

    def __init__(self, progress: Progress, console: Console, wanted: Wanted, mode: str) -> None:
        self.records: list[RoundRecord] = []
        self.costs: list[dict[str, Any]] = []
        self._progress = progress
        self._console = console
        self._wanted = wanted
        self._mode = mode
        self._folder = Path(tempfile.mkdtemp(prefix="smpcfl-"))
        self._log = self._folder / SERVER_LOG
        self._task: TaskID = progress.add_task(
            f"{mode}: starting {wanted.peers} virtual peers", total=wanted.number
        )
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> _Simulated:
        end_like_ctrl_c()
        return self

    def __exit__(self, *error: object) -> None:
        if self._process is not None:
            _end(self._process)
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self, lost: float) -> None:
        """Starts the engine; what it prints goes to a log."""
        wanted = self._wanted
        results = self._folder / "results"
        results.mkdir()
        given = {
            "FLWR_HOME": str(self._folder / "flower"),
            # Where the hub's socket is: another simulation has its own.
            "TMPDIR": str(self._folder),
            "GRPC_ENABLE_FORK_SUPPORT": "0",
            "PYTHONUNBUFFERED": "1",
            "SMPCFL_MODE": self._mode,
            "SMPCFL_MIN_PEERS": str(min(wanted.peers, Settings.min_peers)),
            run_folder.PEERS: str(wanted.peers),
            run_folder.FOLDER: str(self._folder),
            run_folder.LOST: str(lost),
        }
        command = [
            sys.executable,
            "-m",
            "smpcfl.simulation.engine",
            str(wanted.folder),
            str(wanted.peers),
        ]
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [*command, json.dumps(wanted.config(0))],
                cwd=results,
                env={**environment(), **given},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def follow_to_the_end(self) -> None:
        """Shows each round. LocalError, with the end of the log, if the run fails or reports no round."""
        assert self._process is not None
        shown = 0
        while self._process.poll() is None:
            shown = self._show_lines(shown)
            self._follow()
            time.sleep(_POLL_S)
        self._show_lines(shown)
        self._follow()
        if self._process.returncode:
            raise self._failed(f"the simulation ended with code {self._process.returncode}")
        if not self.records:
            raise self._failed(NO_ROUND)
        self._progress.update(self._task, description=f"{self._mode}: done")

    def _show_lines(self, shown: int) -> int:
        """The words that the simulation starts with, and warnings of ours, each once; bytes read so far."""
        text = self._log.read_bytes()[shown:]
        whole, newline, _ = text.rpartition(b"\n")
        for row in dict.fromkeys(whole.decode(errors="replace").splitlines()):
            if row.startswith((WARNING, run_folder.SAID)):
                self._say(row)
        return shown + len(whole) + len(newline)

    def _follow(self) -> None:
        number = self._wanted.number
        for kept in run_folder.read(self._folder)[len(self.records) :]:
            record = RoundRecord.from_members(kept["record"])
            self.records.append(record)
            self.costs.append(kept["costs"])
            self._say(line(record, number))
            if kept["costs"]["peers"]:
                self._say(f"  {RoundCosts(**kept['costs']).text()}")
        text = f"{self._mode}: training"
        if (progress := run_folder.progress(self._folder)) is not None:
            text = f"{self._mode}: {progress[0]} of {progress[1]} replied"
        self._progress.update(self._task, completed=len(self.records), description=text)

    def _failed(self, what: str) -> LocalError:
        kept = Path(tempfile.gettempdir()) / f"smpcfl-log-{self._folder.name}.log"
        shutil.copy(self._log, kept)
        tail = self._log.read_text(errors="replace")[-_TAIL:]
        return LocalError(f"{what}; the end of its log:\n{tail}\nthe whole log: {kept}")

    def keep_output(self, results: Path) -> None:
        """What the ServerApp saved, and what was printed."""
        results.mkdir(parents=True, exist_ok=True)
        shutil.copy(self._log, results / SERVER_LOG)
        shutil.copytree(self._folder / "results", results, dirs_exist_ok=True)

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the engine and all that Ray started for it: the orderly way first."""
    below = set(descendants(process.pid))
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)
        below |= set(descendants(process.pid))
        if process.poll() is None:
            process.kill()
            process.wait()
    for pid in below:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
