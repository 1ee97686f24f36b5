"""A stack whose processes are not all of one version."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from smpcfl.cli.stack import Stack

_CUSTOM = """
import sys

import smpcfl

smpcfl.__version__ = {software!r}
from smpcfl.protocol import encoding  # before anything takes VERSION from there

encoding.VERSION = {protocol}
if {silent} and "peer" in sys.orig_argv:
    from smpcfl.peer import presence

    presence.VERSION = 0
"""


def another_version(folder: Path, software: str, protocol: int, *, silent: bool = False) -> Path:
    """A folder for `Mixed.first`: what imports from there is of that version. `silent`: and does not tell."""
    folder.mkdir(parents=True)
    text = _CUSTOM.format(software=software, protocol=protocol, silent=silent)
    (folder / "sitecustomize.py").write_text(text)
    return folder


@cache
def options_of(service: str, first: Path) -> frozenset[str]:
    """The settings that `smpcfl service` takes if it imports from there: an older one has fewer."""
    shown = subprocess.run(
        [sys.executable, "-m", "smpcfl", service, "--help"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(first), *sys.path])},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return frozenset(name.replace("-", "_") for name in re.findall(r"--([a-z-]+)", shown))


class Mixed(Stack):
    """`first[name]`: where the process of that name, and all that it starts, imports from before elsewhere.

    All but `absent` peers are enough for a round.
    """

    def __init__(self, *arguments: Any, first: dict[str, Path], absent: int = 0) -> None:
        super().__init__(*arguments)
        self.first = first
        self.absent = absent
        self._given: dict[str, tuple[str, dict[str, Any]]] = {}

    def environment_of(self, name: str) -> dict[str, str]:
        found = super().environment_of(name)
        if name in self.first:
            paths = [str(self.first[name]), found.get("PYTHONPATH", "")]
            found["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        return found

    def start(self, name: str, service: str, settings: dict[str, Any]) -> None:
        self._given[name] = service, settings
        enough = self.peers - self.absent
        if service == "aggregator":
            settings = {**settings, "min_peers": enough}
        elif service == "peer":
            settings = {**settings, "min_cohort": min(settings["min_cohort"], enough)}
        known = options_of(service, self.first[name]) if name in self.first else None
        super().start(
            name,
            service,
            {key: value for key, value in settings.items() if known is None or key in known},
        )

    def replace(self, name: str, first: Path | None) -> None:
        """Stops `name`, and starts it on the same state: from `first`, or as what is tested here."""
        process = self._processes[name]
        process.terminate()
        process.wait(60)
        self.first.pop(name, None)
        if first is not None:
            self.first[name] = first
        self.start(name, *self._given[name])
