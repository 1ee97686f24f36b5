"""A ClientApp takes a simulation's socket only from a folder that nobody but its own user can enter."""

from __future__ import annotations

import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from smpcfl.base.files import StorageError
from smpcfl.net import hub_socket

pytestmark = pytest.mark.sockets
RUN = 18_446_744_073_709_551_615  # the largest number that Flower gives a run


@pytest.fixture
def hub(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """Where one listens."""
    monkeypatch.setattr(hub_socket.tempfile, "tempdir", str(tmp_path_factory.mktemp("s")))
    path, _ = hub_socket.make(RUN)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        yield path


def test_it_is_found_by_the_runs_number(hub: Path) -> None:
    assert hub_socket.find(RUN) == hub
    assert hub_socket.find(1) is None
    assert stat.S_IMODE(hub_socket.folder_of(RUN).stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o755, 0o710, 0o777])
def test_a_folder_that_others_can_enter_is_not_taken(mode: int, hub: Path) -> None:
    hub_socket.folder_of(RUN).chmod(mode)
    assert hub_socket.find(RUN) is None


def test_nor_is_one_of_somebody_else(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = hub_socket.folder_of(RUN)
    monkeypatch.setattr(hub_socket, "folder_of", lambda run: folder)
    monkeypatch.setattr(hub_socket.os, "getuid", lambda: 4242)
    assert hub_socket.find(RUN) is None


def test_nobody_listens_in_a_folder_that_others_can_enter(hub: Path) -> None:
    hub_socket.folder_of(RUN).chmod(0o755)
    with pytest.raises(StorageError, match="open to others"):
        hub_socket.make(RUN)


def test_nor_a_link_to_a_folder_of_ours(hub: Path) -> None:
    hub_socket.folder_of(2).symlink_to(hub_socket.folder_of(RUN))
    assert hub_socket.find(2) is None


def test_nor_a_file_in_place_of_the_socket(hub: Path) -> None:
    hub.unlink()
    hub.touch()
    assert hub_socket.find(RUN) is None


def test_a_path_that_is_too_long_for_a_socket_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setattr(hub_socket.tempfile, "tempdir", str(long))
    with pytest.raises(StorageError, match="too long for a Unix socket"):
        hub_socket.make(RUN)
