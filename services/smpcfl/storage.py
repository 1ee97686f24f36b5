"""Whether a state folder can be written, before anything depends on it."""

from __future__ import annotations

import shutil
from pathlib import Path

from .identity import write_private
from .protocol.errors import LocalError

MIB = 2**20
LEAST_BYTES = 1 * MIB
AGGREGATOR_BYTES = 64 * MIB  # Flower's database, and three checkpoints of the model on their way
_PROBE_BYTES = 64 * 1024


class StorageError(LocalError):
    """A folder that cannot be written, or has too little room."""


def check(folder: Path, least_bytes: int) -> None:
    """StorageError, with the remedy, unless `folder` takes a file and has `least_bytes` free."""
    probe = folder / ".writable"
    try:
        # An empty file may still fit where nothing else does.
        write_private(probe, bytes(_PROBE_BYTES))
        probe.unlink()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise StorageError(
            f"cannot write to the state folder {folder}: {error.strerror}; choose another with --state"
        ) from error
    if free < least_bytes:
        raise StorageError(
            f"the state folder {folder} has {free / MIB:.0f} MiB free, at least"
            f" {least_bytes / MIB:.0f} MiB are needed: make room, or choose another with --state"
        )
