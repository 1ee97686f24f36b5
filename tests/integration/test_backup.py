"""Registry and aggregator are lost, and restored from a backup that is some rounds old: real processes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from smpcfl.aggregator import rounds_service
from smpcfl.base.files import read_number
from smpcfl.base.state import State
from smpcfl.cli.stack import Stack
from smpcfl.daemons.allowed_apps import hash_of
from smpcfl.reports.record import RoundRecord
from support.light_app import light_app, running
from support.processes import kill, start_again

PEERS = 3
MANY = 500  # rounds: more than there is time for


def records(stack: Stack) -> list[RoundRecord]:
    return rounds_service.read(stack.records)


def serial(stack: Stack, name: str) -> int:
    return read_number(State(stack.folder / name).serial)


def train_on(stack: Stack, what: str) -> None:
    """Two rounds more that are complete."""
    known = len(records(stack))

    def done() -> bool:
        return sum(record.outcome == "complete" for record in records(stack)[known:]) >= 2

    stack.wait(done, 280, what)


@pytest.mark.processes
@pytest.mark.timeout(900)
def test_a_federation_goes_on_from_a_backup(tmp_path: Path) -> None:
    """As docs/deploy.md says: the registry's folder as it is, the aggregator's while it is stopped."""
    app, backup = light_app(tmp_path / "app", MANY), tmp_path / "backup"
    with (
        Stack(tmp_path / "stack", "seeded", PEERS, 0, 1, hash_of(app)) as stack,
        running(stack, app),
    ):
        train_on(stack, "rounds before the backup")
        shutil.copytree(stack.folder / "registry", backup / "registry")
        aggregator = stack._processes["aggregator"]
        aggregator.terminate()
        aggregator.wait(60)
        shutil.copytree(stack.folder / "aggregator", backup / "aggregator")
        kept = records(stack)
        start_again(stack, "aggregator")
        train_on(stack, "rounds after it")
        kill(stack, "peer-0")  # the SuperNode's next key is one that the backup does not know
        start_again(stack, "peer-0")
        train_on(stack, "rounds with a peer that was started again")

        before, enrolled = serial(stack, "aggregator"), stack.log("registry").count("enrolled")
        lost = records(stack)
        for name in ("registry", "aggregator"):
            kill(stack, name)
            shutil.rmtree(stack.folder / name)
            shutil.copytree(backup / name, stack.folder / name)
        assert serial(stack, "aggregator") < before, "the backup is older"
        for name in ("registry", "aggregator"):
            start_again(stack, name)
        train_on(stack, "rounds from the backup")

        found = records(stack)
        assert serial(stack, "aggregator") > before
        for number in range(PEERS):
            assert serial(stack, f"peer-{number}") > before, "peers took its tickets"
        assert stack.log("registry").count("enrolled") == enrolled == PEERS + 1
    assert len(lost) > len(kept) >= 2
    assert found[: len(kept)] == kept, "all that was in the backup"
    again = found[len(kept) :]
    assert {record.run for record in found} == {kept[0].run}
    assert [record.round for record in again] == [
        kept[-1].round + 1 + number for number in range(len(again))
    ], "the rounds since the backup are run again, each once"
    assert all(record.survivors == PEERS for record in again[-2:])
