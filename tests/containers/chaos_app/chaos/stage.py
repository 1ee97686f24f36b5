"""Files shared with the test: marks of where everyone is, holds to stop at, and what was learnt.

Everyone passes the points of a round by name. A mark `at/POINT` says that somebody is there; while the
test keeps a file `hold/POINT`, nobody goes on from there.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path("/chaos")
_PATIENCE_S = 150.0


def reach(point: str, text: str = "") -> None:
    write(f"at/{point}", text.encode())
    latest = time.monotonic() + _PATIENCE_S
    while (FOLDER / "hold" / point).exists() and time.monotonic() < latest:
        time.sleep(0.02)


def write(name: str, content: bytes) -> None:
    """Whole or not at all: the writer may be killed at any moment."""
    path = FOLDER / name
    temporary = path.with_name(f".{path.name}.{os.uname().nodename}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)


def save(name: str, **arrays: Any) -> None:
    path = FOLDER / name
    temporary = path.with_name(f".{path.name}.{os.uname().nodename}.{os.getpid()}.npz")
    np.savez(temporary, **arrays)
    temporary.replace(path)
