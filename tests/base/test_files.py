"""A state folder that cannot take what a service keeps is said before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from smpcfl.base import files
from support.disk import small_disk


def test_a_disk_that_is_full_or_small_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk(tmp_path / "disk", monkeypatch) as disk:
        files.check(disk.folder, 1)
        with pytest.raises(
            files.StorageError, match=r"at least \d+ MiB are needed; make room, or .* --state"
        ):
            files.check(disk.folder, 2**60)
        disk.fill()
        with pytest.raises(files.StorageError, match=f"{disk.folder}: No space left on device"):
            files.check(disk.folder, 1)


def test_a_folder_that_cannot_be_made_is_named() -> None:
    with pytest.raises(files.StorageError, match="cannot write to the state folder /proc/no"):
        files.check(Path("/proc/no"), 1)
