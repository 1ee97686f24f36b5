"""Where ClientApps in Flower's simulation engine find the hub that holds the agents of all virtual peers.

Flower says nothing to a ClientApp that ours could choose for it, so both sides take the path from the run's
number.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

from ..base import files

NODE = "smpcfl-node"
PARTITION = "smpcfl-partition"
"""Call metadata: Flower's number of the node that calls, and its `partition-id`, in decimal digits."""


def folder_of(flower_run: int) -> Path:
    """On this machine, for this user; it may not exist."""
    return Path(tempfile.gettempdir()) / f"smpcfl-simulation-{os.getuid()}-{flower_run}"


def make(flower_run: int) -> tuple[Path, Path]:
    """Where to listen for ClientApps, and for the ServerApp, in a folder that nobody else may enter.

    StorageError if a path is too long, or the folder is another user's.
    """
    folder = folder_of(flower_run)
    folder.mkdir(mode=0o700, exist_ok=True)
    if not _is_own(folder):
        raise files.StorageError(f"{folder} is another user's, or open to others: remove it")
    # `multiprocessing` keeps connections by address, and a run that trains once more has another hub.
    return files.socket_path(folder, "hub"), files.socket_path(folder, secrets.token_hex(2))


def find(flower_run: int) -> Path | None:
    """The hub's socket; None if there is none, or if anybody else could have put it there."""
    folder = folder_of(flower_run)
    path = folder / "run" / "hub.sock"
    try:
        return path if path.is_socket() and _is_own(folder) else None
    except OSError:
        return None


def _is_own(folder: Path) -> bool:
    """Whether nobody else may enter it. Of a link, `lstat` says that everybody may."""
    about = folder.lstat()
    return about.st_uid == os.getuid() and not about.st_mode & 0o077
