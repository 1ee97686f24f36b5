"""How long a daemon that exits is waited with."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from smpcfl.daemons import supervisor
from smpcfl.daemons.supervisor import Child

pytestmark = pytest.mark.commands


@pytest.mark.parametrize(
    ("stable_s", "pauses"), [(1000.0, [1.0, 2.0, 5.0, 10.0, 10.0]), (-1.0, [1.0, 1.0])]
)
async def test_the_pause_grows_with_failures_and_is_short_after_a_stable_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stable_s: float, pauses: list[float]
) -> None:
    seen: list[float] = []

    async def note(stop: asyncio.Event, seconds: float) -> None:
        seen.append(seconds)
        if len(seen) == len(pauses):
            stop.set()

    monkeypatch.setattr(supervisor, "wait_for", note)
    monkeypatch.setattr(supervisor, "_STABLE_S", stable_s)
    await Child("daemon", ["true"], os.environ, tmp_path / "log").run(asyncio.Event())
    assert seen == pauses
