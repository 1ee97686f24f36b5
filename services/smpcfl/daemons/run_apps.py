"""Which app each Flower run has: the SuperNode notes it, the agent reads it.

The aggregator reports it too, but the SuperNode has seen the app. One small file a run, in the SuperNode's
own folder. Nothing of Flower is imported here.
"""

from __future__ import annotations

import re
from pathlib import Path

from ..base.files import write_private
from ..protocol.errors import LocalError

KEPT = 1000  # the newest; a run that is forgotten has no app


def prepare(folder: Path) -> None:
    """Makes `folder`, empty: a SuperNode that starts knows no run. LocalError if it cannot."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in folder.iterdir():
            path.unlink()
    except OSError as error:
        raise LocalError(
            f"cannot empty {folder} ({error.strerror}): it has to be a folder of this user's"
        ) from error


def note(folder: Path, run_id: int, app: bytes) -> None:
    """`app`: SHA-256 of the run's bundle, 32 bytes. OSError if it cannot be written."""
    write_private(folder / str(run_id), app.hex().encode())
    others = [path for path in folder.iterdir() if path.name != str(run_id)]
    for path in sorted(others, key=lambda path: path.stat().st_mtime_ns)[: -(KEPT - 1)]:
        path.unlink()


def app_of_run(folder: Path, run_id: int) -> bytes | None:
    """SHA-256, 32 bytes, of the bundle that this peer's SuperNode runs for `run_id`; None if for none."""
    try:
        text = (folder / str(run_id)).read_text(errors="replace")
    except FileNotFoundError:
        return None
    return bytes.fromhex(text) if re.fullmatch("[0-9a-f]{64}", text) else None
