"""`smpcfl compare` as a user types it: what it prints, and where its live page is."""

from __future__ import annotations

import os
import queue
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType

START_S = 240


class Compare:
    """Use as a context manager: the process does not outlive it."""

    def __init__(self, report: Path, *arguments: str) -> None:
        command = [sys.executable, "-m", "smpcfl", "compare", *arguments, "--report", str(report)]
        self.process = subprocess.Popen(
            command,
            env={**os.environ, "FLWR_TELEMETRY_ENABLED": "0"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.printed: list[str] = []
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Compare:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.printed.append(line)
            self._lines.put(line)

    def url(self) -> str:
        """As soon as it is printed."""
        latest = time.monotonic() + START_S
        while True:
            line = self._lines.get(timeout=max(latest - time.monotonic(), 0.1))
            if found := re.search(r"live page: (http://127\.0\.0\.1:\d+/)", line):
                return found[1]

    def ended(self) -> None:
        """Soon, and well."""
        assert self.process.wait(60) == 0, "".join(self.printed)
