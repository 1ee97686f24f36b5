"""The ledger on disk: what a peer agreed to, it knows after a restart."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from smpcfl.base import ledger_file
from smpcfl.base.files import StorageError
from smpcfl.base.ledger_file import open_ledger
from smpcfl.base.state import State
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.ledger import Latest, Seen
from smpcfl.protocol.policy import Policy
from smpcfl.protocol.ticket import EVALUATE, HOUR_MS
from support.network import make_ticket

TICKET = make_ticket(10).ticket
POLICY = Policy(tickets_per_hour=2)
NOW_MS = 10**12
EVERYONE = tuple(range(10))


def rows(path: Path, table: str) -> int:
    database = sqlite3.connect(path)
    (count,) = database.execute(f"SELECT count(*) FROM {table}").fetchone()
    database.close()
    return int(count)


def test_all_that_was_kept_is_there_after_a_restart(tmp_path: Path) -> None:
    path = State(tmp_path).ledger
    first = open_ledger(path)
    first.accept(TICKET, NOW_MS)
    first.accept(replace(TICKET, serial=2), NOW_MS + 1)
    first.agree(TICKET, EVERYONE, POLICY)
    again = open_ledger(path)  # without anybody having closed the first one
    assert again._models == first._models
    assert again._models.keys() == {TICKET.model_digest}
    for act, reason in (
        (lambda: again.check(TICKET, POLICY, NOW_MS + 2), Reason.TOO_MANY_TICKETS),
        (
            lambda: again.check(replace(TICKET, clip=2.0), POLICY, NOW_MS + 2 * HOUR_MS),
            Reason.SECOND_CONFIGURATION,
        ),
        (lambda: again.agree(TICKET, EVERYONE[1:], POLICY), Reason.CONFLICTING_SURVIVORS),
    ):
        with pytest.raises(RemoteError) as error:
            act()
        assert error.value.reason is reason
    again.agree(TICKET, EVERYONE[4:], POLICY)
    assert len(open_ledger(path)._models[TICKET.model_digest].sets) == 2


def test_what_was_evaluated_is_known_after_a_restart(tmp_path: Path) -> None:
    path = State(tmp_path).ledger
    first, models = open_ledger(path), [bytes([number]) * 32 for number in range(4)]
    trained = replace(TICKET, model_digest=models[0])
    evaluation = replace(TICKET, task=EVALUATE, body=0, model_digest=models[1])
    first.accept(trained, NOW_MS)
    first.agree(trained, EVERYONE[:8], POLICY)
    first.accept(evaluation, NOW_MS + 1)
    assert open_ledger(path)._models[models[0]].evaluated is False
    first.agree(evaluation, EVERYONE[:8], POLICY)
    again, policy = open_ledger(path), replace(POLICY, tickets_per_hour=60)
    assert again._models[models[1]].evaluated is True
    assert again._latest == first._latest
    survivors = frozenset(TICKET.cohort[:8])
    assert again._latest == Latest(models[0], survivors, models[1], NOW_MS + 1)
    for ticket in (evaluation, replace(evaluation, model_digest=models[2])):
        with pytest.raises(RemoteError) as error:
            again.check(ticket, policy, NOW_MS + 2)
        assert error.value.reason is Reason.SECOND_EVALUATION
    last = replace(evaluation, model_digest=models[0])
    again.check(last, policy, NOW_MS + 2)
    with pytest.raises(RemoteError) as error:
        again.agree(last, EVERYONE[:7], POLICY)
    assert error.value.reason is Reason.CONFLICTING_SURVIVORS
    again.accept(replace(TICKET, model_digest=models[1]), NOW_MS + 2)
    assert open_ledger(path)._latest == Latest(models[0], survivors)
    assert rows(path, "latest") == 1


def test_what_is_latest_is_kept_on_disk_before_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = open_ledger(State(tmp_path).ledger)

    def full(latest: Latest) -> str:
        raise OSError("no space left")

    monkeypatch.setattr(ledger_file, "_written_latest", full)
    evaluation = replace(TICKET, task=EVALUATE, body=0)
    with pytest.raises(OSError, match="no space"):
        ledger.accept(evaluation, NOW_MS)
    with pytest.raises(OSError, match="no space"):
        ledger.agree(TICKET, EVERYONE, POLICY)
    assert ledger._latest == Latest()


def test_a_file_of_before_there_were_evaluations_is_read(tmp_path: Path) -> None:
    path = State(tmp_path).ledger
    open_ledger(path).agree(TICKET, EVERYONE, POLICY)
    change(path, "UPDATE models SET seen = json_remove(seen, '$.evaluated')")
    change(path, "DROP TABLE latest")
    ledger = open_ledger(path)
    assert ledger._models[TICKET.model_digest].evaluated is False
    assert ledger._latest == Latest()


def test_nobody_else_reads_it(tmp_path: Path) -> None:
    path = State(tmp_path).ledger
    open_ledger(path).accept(TICKET, NOW_MS)
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"no database" * 1000),
        lambda path: path.write_bytes(path.read_bytes()[:5000]),
        lambda path: change(path, "UPDATE models SET seen = '{'"),
        lambda path: change(path, "UPDATE models SET seen = '{}'"),
        lambda path: change(path, "UPDATE models SET seen = '[1]'"),
        lambda path: change(
            path, """UPDATE models SET seen = '{"configurations": ["zz"], "sets": []}'"""
        ),
        lambda path: change(path, "UPDATE tickets SET at_ms = 'soon'"),
        lambda path: change(path, "UPDATE latest SET latest = '{}'"),
        lambda path: change(path, "UPDATE latest SET latest = '[1]'"),
        lambda path: change(
            path, "UPDATE latest SET latest = json_replace(latest, '$.trained', 'zz')"
        ),
    ],
    ids=[
        "another file",
        "cut off",
        "half a member",
        "nothing",
        "a list",
        "no hex",
        "no number",
        "nothing latest",
        "a list latest",
        "no hex latest",
    ],
)
def test_a_damaged_file_is_an_error_that_names_it_and_the_remedy(
    tmp_path: Path, damage: object
) -> None:
    path = State(tmp_path).ledger
    ledger = open_ledger(path)
    ledger.accept(TICKET, NOW_MS)
    ledger.agree(TICKET, EVERYONE, POLICY)
    damage(path)  # type: ignore[operator]
    with pytest.raises(StorageError, match=rf"{path} is damaged .*restore it, or remove it"):
        open_ledger(path)


def change(path: Path, statement: str) -> None:
    database = sqlite3.connect(path)
    database.execute(statement)
    database.commit()
    database.close()


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="make room"):
        open_ledger(tmp_path / "no" / "ledger.sqlite")


def test_the_oldest_models_are_forgotten_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_file, "MODELS", 3)
    clock = iter(range(1000, 2000))
    monkeypatch.setattr(ledger_file.time, "time", lambda: float(next(clock)))
    path = State(tmp_path).ledger
    ledger = open_ledger(path)
    models = [bytes([number]) * 32 for number in range(5)]
    for model in models[:3]:
        ledger.accept(replace(TICKET, model_digest=model), NOW_MS)
    ledger.agree(replace(TICKET, model_digest=models[0]), EVERYONE, POLICY)  # the newest now
    for model in models[3:]:
        ledger.accept(replace(TICKET, model_digest=model), NOW_MS)
    assert rows(path, "models") == 3
    kept = open_ledger(path)._models
    assert kept.keys() == {models[0], models[3], models[4]}
    assert kept[models[0]].sets == (frozenset(TICKET.cohort),)


def test_tickets_of_more_than_an_hour_ago_are_dropped(tmp_path: Path) -> None:
    path = State(tmp_path).ledger
    ledger = open_ledger(path)
    for minute in range(0, 180, 30):
        ledger.accept(TICKET, NOW_MS + minute * 60_000)
    assert rows(path, "tickets") == 2
    assert isinstance(ledger._models[TICKET.model_digest], Seen)
