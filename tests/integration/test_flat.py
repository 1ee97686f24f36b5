"""Nothing grows from round to round: files, sockets, memory, series, state. With real processes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from smpcfl.aggregator import rounds_service
from smpcfl.cli.stack import Stack
from smpcfl.daemons.allowed_apps import hash_of
from support.light_app import light_app, running
from support.processes import option, page

PEERS, WARM, ROUNDS = 3, 3, 9
SIZE = 500_000
MEMORY_BYTES = 8 << 20  # what an allocator keeps varies; a leaked vector a round would be more


@dataclass(frozen=True)
class Size:
    files: int
    sockets: int
    memory_bytes: int
    series: int
    state_files: int


def size_of(stack: Stack, name: str) -> Size:
    proc = Path(f"/proc/{stack._processes[name].pid}")
    links = []
    for descriptor in (proc / "fd").iterdir():
        try:
            links.append(str(descriptor.readlink()))
        except FileNotFoundError:  # closed while we look
            continue
    status = dict(
        line.split(":", 1) for line in (proc / "status").read_text().splitlines() if ":" in line
    )
    text = page(option(stack, name, "--metrics-port"), "/metrics")
    state = stack.folder / name
    return Size(
        files=len(links),
        sockets=sum(link.startswith("socket:") for link in links),
        memory_bytes=int(status["VmRSS"].split()[0]) * 1024,
        series=sum(
            not line.startswith("#") and "_bucket{" not in line for line in text.splitlines()
        ),
        # Flower keeps each run's files in a folder of its own.
        state_files=sum(
            item.is_file() and "flower" not in str(item.relative_to(state))
            for item in state.rglob("*")
        ),
    )


@pytest.mark.processes
@pytest.mark.timeout(900)
def test_nothing_grows_from_round_to_round(tmp_path: Path) -> None:
    names = ["registry", "aggregator", *(f"peer-{number}" for number in range(PEERS))]
    app = light_app(tmp_path / "app", ROUNDS, SIZE)
    stack = Stack(tmp_path / "stack", "seeded", PEERS, 0, 1, hash_of(app))
    with stack, running(stack, app):
        stack.wait(lambda: len(rounds_service.read(stack.records)) >= WARM, 280, "the first rounds")
        before = {name: size_of(stack, name) for name in names}
        stack.wait(lambda: len(rounds_service.read(stack.records)) >= ROUNDS, 500, "training")
        after = {name: size_of(stack, name) for name in names}
        assert all(r.outcome == "complete" for r in rounds_service.read(stack.records))
    for name in names:
        one, other = before[name], after[name]
        print(f"{name}: {one} -> {other}")
        # A connection more or less, of whoever is asking at that moment.
        assert other.files <= one.files + 4, (name, one, other)
        assert other.sockets <= one.sockets + 4, (name, one, other)
        assert other.memory_bytes <= one.memory_bytes + MEMORY_BYTES, (name, one, other)
        # Labels are bounded; a call may have its first error late.
        assert other.series <= one.series + 12, (name, one, other)
        assert other.state_files <= one.state_files + 1, (name, one, other)
