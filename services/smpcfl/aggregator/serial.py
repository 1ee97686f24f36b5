"""Ticket serials: never the same twice, whatever is restarted or restored."""

from __future__ import annotations

import time
from pathlib import Path

from ..identity import write_private


def next_serial(path: Path) -> int:
    """max(last + 1, Unix milliseconds), on disk before it is returned."""
    last = int(path.read_text()) if path.exists() else 0
    serial = max(last + 1, int(time.time() * 1000))
    write_private(path, str(serial).encode())
    return serial
