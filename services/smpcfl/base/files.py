"""Files of a state folder: written whole or not at all, and whether there is room for them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ..protocol.errors import LocalError
from .state import State

MIB = 2**20
LEAST_BYTES = 1 * MIB
AGGREGATOR_BYTES = 64 * MIB  # Flower's database, and three checkpoints of the model on their way
_PROBE_BYTES = 64 * 1024
_DIGITS = 20  # of the largest number of 64 bits
_SOCKET_BYTES = 100  # the least that a system takes is 103


class StorageError(LocalError):
    """A folder that cannot be written or has too little room, or a file there that is damaged."""


def check(folder: Path, least_bytes: int, option: str = "state") -> None:
    """StorageError, with the remedy, unless `folder` takes a file and has `least_bytes` free.

    `option` is the one that chooses the folder.
    """
    if (wrong := problem(folder, least_bytes, option)) is not None:
        found, remedy = wrong
        raise StorageError(f"{found}; {remedy}")


def problem(folder: Path, least_bytes: int, option: str = "state") -> tuple[str, str] | None:
    """As `check`: what is wrong, and the remedy; None if nothing is."""
    probe = folder / ".writable"
    try:
        # An empty file may still fit where nothing else does.
        write_private(probe, bytes(_PROBE_BYTES))
        probe.unlink()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        found = f"cannot write to the {option} folder {folder}: {error.strerror}"
        return found, f"make it writable, with room, or choose another with --{option}"
    if free < least_bytes:
        found = (
            f"the {option} folder {folder} has {free / MIB:.0f} MiB free, at least"
            f" {least_bytes / MIB:.0f} MiB are needed"
        )
        return found, f"make room, or choose another with --{option}"
    return None


def read_number(path: Path) -> int:
    """The whole number that `path` keeps, 0 if there is none yet. StorageError for anything else."""
    try:
        text = path.read_bytes().strip()
    except FileNotFoundError:
        return 0
    if not text.isdigit() or len(text) > _DIGITS:
        raise StorageError(f"{path} is damaged: it holds {text[:40]!r}, and no whole number")
    return int(text)


def socket_path(state: Path, name: str) -> Path:
    """For a Unix socket, in a folder that nobody else may enter: its own mode is set once it is there.

    StorageError if it would be too long.
    """
    path = State(state).socket(name)
    if len(os.fsencode(path.absolute())) > _SOCKET_BYTES:
        raise StorageError(
            f"{path.absolute()} is too long for a Unix socket ({_SOCKET_BYTES} bytes): choose a shorter"
            " folder with --state"
        )
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.chmod(path.parent, 0o700)
    path.unlink(missing_ok=True)
    return path


def write_private(path: Path, *content: bytes | memoryview, mode: int = 0o600) -> None:
    """Atomic and durable: a new file with `mode`, flushed, renamed over `path`, the folder flushed.

    `content`: what it holds, one after the other.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
