"""A log of one line an event, as text and as JSON, with run, round and peer as fields."""

from __future__ import annotations

import ast
import asyncio
import json
import logging
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import smpcfl
from smpcfl.base import log
from smpcfl.base.log_events import FIELDS, LogEvent, about, during, fields_of

PACKAGE = Path(smpcfl.__file__).parent
RESERVED = vars(logging.makeLogRecord({})).keys()


def record(message: str = "hello", *given: object, **extra: Any) -> logging.LogRecord:
    made = logging.LogRecord("smpcfl.peer", logging.WARNING, "", 0, message, given, None)
    made.__dict__ |= {"created": 1.5, **extra}
    return made


def as_text(made: logging.LogRecord) -> str:
    """Without the time, which is the local one."""
    time, _, rest = log.TextFormatter().format(made).partition(" ")
    assert re.fullmatch(r"\d\d:\d\d:\d\d", time)
    return rest


def as_json(made: logging.LogRecord) -> dict[str, Any]:
    line = log.JsonFormatter({"service": "peer", "mode": "seeded"}).format(made)
    assert line.isprintable()
    found: dict[str, Any] = json.loads(line)
    return found


def failed(message: str = "hello") -> logging.LogRecord:
    made = record(message)
    try:
        raise KeyError("what\nfor")
    except KeyError:
        made.exc_info = sys.exc_info()
    return made


# -- text ---------------------------------------------------------------------------------------------------


def test_a_line_has_level_and_message() -> None:
    assert as_text(record("%d of %s", 2, "five")) == "WARNING 2 of five"


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("a round", "a round  round=3  peer=peer-b"),
        ("round 3: peer-b is away", "round 3: peer-b is away"),
        ("round  3/10  seeded", "round  3/10  seeded  peer=peer-b"),
        ("round 30 of peer-b", "round 30 of peer-b  round=3"),
    ],
)
def test_a_field_stands_behind_a_message_that_does_not_name_it(message: str, shown: str) -> None:
    extra = about(LogEvent.PEER_AWAY, run=7, round=3, peer="peer-b")
    assert as_text(record(message, **extra)) == f"WARNING {shown}"


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("one\ntwo\r\n\n  three\n", "one | two |   three"),
        ("\x1b[2J\u202egone\x85forged", "?[2J?gone | forged"),
        ("Größe 3 ⌊2k/3⌋", "Größe 3 ⌊2k/3⌋"),
    ],
)
def test_what_others_sent_neither_begins_a_line_nor_drives_the_terminal(
    message: str, shown: str
) -> None:
    assert as_text(record(message)) == f"WARNING {shown}"


def test_a_fault_of_the_program_is_one_line_too() -> None:
    text = as_text(failed())
    assert text.isprintable()
    assert text.startswith("WARNING hello | Traceback (most recent call last): |   File ")


# -- JSON ---------------------------------------------------------------------------------------------------


def test_an_object_has_these_members() -> None:
    extra = about(LogEvent.REFUSED, run=2**62, round=3, peer="peer-b")
    assert as_json(record("%s\n%s", "a", "\x1b\ud800", **extra)) == {
        "time": "1970-01-01T00:00:01.500Z",
        "level": "WARNING",
        "logger": "smpcfl.peer",
        "service": "peer",
        "mode": "seeded",
        "event": "refused",
        "message": "a\n\x1b\ud800",
        "run": 2**62,
        "round": 3,
        "peer": "peer-b",
    }


def test_what_is_not_known_is_absent() -> None:
    members = {"time", "level", "logger", "service", "mode", "message"}
    assert as_json(record()).keys() == members
    assert as_json(record(**about(None, run=0, round=0, peer=""))).keys() == members
    assert as_json(failed()).keys() == members | {"traceback"}


def test_the_members_are_those_that_the_docs_list() -> None:
    made = failed()
    made.__dict__ |= about(LogEvent.REFUSED, run=1, round=2, peer="a")
    assert as_json(made).keys() == {*log.MEMBERS, *FIELDS}


def test_the_time_of_day_is_utc() -> None:
    found = datetime.fromisoformat(as_json(record(created=1e9 + 0.0625))["time"])
    assert found == datetime.fromtimestamp(1e9 + 0.062, UTC)


# -- fields -------------------------------------------------------------------------------------------------


def test_what_holds_for_a_while_is_on_all_lines_of_it() -> None:
    with during(run=7, round=3):
        assert fields_of(record()) == {"run": 7, "round": 3}
        with during(round=4, peer="a"):
            assert fields_of(record(peer="b")) == {"run": 7, "round": 4, "peer": "b"}
        assert fields_of(record()) == {"run": 7, "round": 3}
    assert fields_of(record()) == {}


async def test_it_holds_for_the_tasks_that_are_begun_meanwhile_and_for_no_other() -> None:
    go_on = asyncio.Event()

    async def later() -> dict[str, int | str]:
        await go_on.wait()
        return fields_of(record())

    before = asyncio.create_task(later())
    with during(round=3):
        within = asyncio.create_task(later())
    go_on.set()
    assert (await before, await within) == ({}, {"round": 3})


def test_no_field_hides_what_a_record_has() -> None:
    extra = about(LogEvent.REFUSED, run=1, round=2, peer="a")
    assert extra.keys() == {"event", *FIELDS}
    assert not extra.keys() & RESERVED


# -- events -------------------------------------------------------------------------------------------------


def calls() -> Iterator[ast.Call]:
    """Of `about`, all over the package."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "about":
                yield node


def test_every_event_is_used_and_has_a_name_and_a_meaning() -> None:
    used = {ast.unparse(call.args[0]) for call in calls()}
    assert used >= {f"LogEvent.{event.name}" for event in LogEvent}
    for event in LogEvent:
        assert event == event.name.lower()
        assert event.meaning


# -- of a process -------------------------------------------------------------------------------------------


@pytest.fixture
def logger(monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.Logger]:
    """One beside all others."""
    found = logging.getLogger("test-of-the-log")
    yield found
    found.handlers.clear()


@pytest.mark.parametrize(("log_format", "first"), [(log.TEXT, ":"), (log.JSON, "{")])
def test_it_is_written_to_standard_error_in_the_chosen_format(
    log_format: str, first: str, logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure("peer", "seeded", log_format, logger.name)
    log.configure("peer", "seeded", log_format, logger.name)  # the one before is gone
    logger.getChild("below").info("hello")
    logger.debug("not this")
    (line,) = capsys.readouterr().err.splitlines()
    assert first in line[:3]
    assert "hello" in line


def test_debug_in_the_environment_gives_more(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEBUG", "1")
    log.configure("peer", "seeded", log.TEXT, logger.name)
    logger.debug("this too")
    assert "DEBUG   this too" in capsys.readouterr().err
