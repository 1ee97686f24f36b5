"""A whole run, and every secret made in it: none stands in what anybody can read."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

import smpcfl
from smpcfl.aggregator import rounds_service
from smpcfl.cli.stack import Stack
from smpcfl.daemons.allowed_apps import hash_of
from smpcfl.daemons.supervisor import descendants
from smpcfl.reports.report import Report
from smpcfl.reports.write import write
from support import recording
from support.leaks import Leaks, of_key, of_process
from support.light_app import light_app, running
from support.processes import option, page

KEPT = ("key.pem", "ca-key.pem", "token")  # the files that are meant to hold one
PEERS, ROUNDS = 4, 2


@pytest.mark.processes
def test_no_secret_of_a_run_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tmp_path / "made"
    made.mkdir()
    paths = [next(iter(recording.__path__)), str(Path(smpcfl.__file__).parents[1])]
    monkeypatch.setenv("MADE_SECRETS", str(made))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setenv("DEBUG", "1")
    folder, seen = tmp_path / "stack", dict[str, bytes]()
    app = light_app(tmp_path / "app", ROUNDS)
    stack = Stack(folder, "seeded", PEERS, 0, 1, hash_of(app))
    with stack, running(stack, app):

        def done() -> bool:
            for process in stack._processes.values():
                for pid in (process.pid, *descendants(process.pid)):
                    seen.update(of_process(pid))
            return len(rounds_service.read(stack.records)) == ROUNDS

        stack.wait(done, 240, "training")
        for name, process in stack._processes.items():
            seen[f"metrics of {name}"] = page(
                option(stack, name, "--metrics-port"), "/metrics"
            ).encode()
            limits = resource.prlimit(process.pid, resource.RLIMIT_CORE)
            assert limits == (0, 0), f"{name} may dump core"
        records = rounds_service.read(stack.records)
    assert [record.outcome for record in records] == ["complete"] * ROUNDS
    write(folder / "report", Report({"seeded": records}, {"peers": PEERS}))

    leaks = Leaks([*_of_rounds(made), *_of_files(folder)])
    # Of each round, a peer has two secrets, two shares for and from each other peer, and keys.
    assert len(leaks.secrets) > PEERS * ROUNDS * (2 + 2 * (PEERS - 1))
    places = [*seen.items(), *_readable(folder)]
    names = " ".join(name for name, _ in places)
    for expected in (
        "cmdline",
        "environ",
        "metrics",
        "report.html",
        "records.jsonl",
        "supernode.log",
    ):
        assert expected in names
    assert leaks.found_in(places) == []
    assert leaks.found_in([("planted", b"key " + max(leaks.secrets).hex().encode())])


def _of_rounds(made: Path) -> Iterator[bytes]:
    for path in made.iterdir():
        yield from map(bytes.fromhex, path.read_text().split())


def _of_files(folder: Path) -> Iterator[bytes]:
    for path in folder.rglob("*"):
        if path.name in ("key.pem", "ca-key.pem"):
            yield from of_key(path)
        elif path.name == "token":
            yield path.read_bytes().strip()


def _readable(folder: Path) -> Iterator[tuple[str, bytes]]:
    """All that the run left on disk, but for the files that are meant to hold a secret."""
    for path in folder.rglob("*"):
        if path.is_file() and path.name not in KEPT:
            yield str(path), path.read_bytes()
