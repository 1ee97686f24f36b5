"""Where a daemon runs, and with it the apps that it starts: what they save lies there and is not imported."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from smpcfl.daemons import supervisor
from smpcfl.daemons.supervisor import Child

pytestmark = pytest.mark.commands


async def test_it_is_the_given_folder_and_nothing_is_imported_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, stop = tmp_path / "results", asyncio.Event()
    folder.mkdir()
    (folder / "signal.py").write_text("raise SystemExit('an app left this here')\n")
    (folder / "smpcfl").mkdir()

    async def once(stop: asyncio.Event, seconds: float) -> None:
        stop.set()

    monkeypatch.setattr(supervisor, "wait_for", once)
    log = tmp_path / "log"
    await Child("daemon", ["pwd"], os.environ, log, folder=folder).run(stop)
    assert log.read_text().strip() == str(folder)
