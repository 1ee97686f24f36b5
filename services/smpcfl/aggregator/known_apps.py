"""The files of each app as it was last started here: to say which of them changed."""

from __future__ import annotations

import json
from pathlib import Path

from ..base.files import write_private

Files = dict[str, str]  # SHA-256 in hex, by the path within the app


def load(path: Path) -> dict[str, Files]:
    """By the app's name. A file that is missing or damaged is as if no app had been started."""
    try:
        found = json.loads(path.read_bytes())
        return {str(name): dict(files) for name, files in found.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def keep(path: Path, name: str, files: Files) -> None:
    """OSError if it cannot be written."""
    write_private(path, json.dumps({**load(path), name: files}, indent=1).encode())
