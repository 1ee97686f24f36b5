"""Writes report.json (for other programs) and report.html (one file, for people)."""

from __future__ import annotations

import os
from pathlib import Path

from .report import Report
from .report_page import page


def write(directory: str | os.PathLike[str], report: Report) -> tuple[Path, Path]:
    """Into `directory`, made if need be; returns their paths. Each file appears whole or not at all."""
    texts = {"report.json": report.to_json(), "report.html": page(report)}
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        _replace(folder / name, text)
    return folder / "report.json", folder / "report.html"


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # Names of files may have halves of characters.
        temporary.write_text(text, encoding="utf-8", errors="replace")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
