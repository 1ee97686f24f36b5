"""A flood of one line is twenty of them a minute, and how many more there were."""

from __future__ import annotations

import io
import logging
import tracemalloc
from typing import Any

import pytest

from smpcfl.base import log, repeats
from smpcfl.base.log_events import about, during
from smpcfl.base.repeats import MOST, WINDOW_S, Repeats


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def record(message: str = "refused: %s", *given: object, **extra: Any) -> logging.LogRecord:
    made = logging.LogRecord("smpcfl.peer", logging.WARNING, "", 0, message, given, None)
    made.__dict__ |= extra
    return made


def texts(found: list[logging.LogRecord]) -> list[str]:
    return [item.getMessage() for item in found]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def held(clock: Clock) -> Repeats:
    return Repeats(clock)


def flood(held: Repeats, count: int, **extra: Any) -> list[str]:
    found: list[logging.LogRecord] = []
    for number in range(count):
        found += held.take(record("refused: %s", number, **extra))
    return texts(found)


def test_a_flood_is_some_lines_and_then_their_number(held: Repeats, clock: Clock) -> None:
    assert flood(held, 10_000) == [f"refused: {number}" for number in range(MOST)]
    clock.now += WINDOW_S
    assert flood(held, 1) == [
        f"{10_000 - MOST} more like this within a minute: refused: {MOST}",
        "refused: 0",
    ]
    assert held.rest() == []


def test_a_flood_without_end_is_no_more_each_minute(held: Repeats, clock: Clock) -> None:
    lines = 0
    for _ in range(100):
        lines += len(flood(held, 1000))
        clock.now += WINDOW_S
    assert lines == 100 * (MOST + 1) - 1


def test_any_other_line_brings_the_number_once_the_minute_is_over(
    held: Repeats, clock: Clock
) -> None:
    flood(held, MOST + 5)
    assert texts(held.take(record("other"))) == ["other"]
    clock.now += WINDOW_S - 0.01
    assert texts(held.take(record("other"))) == ["other"]
    clock.now += 0.01
    more = f"5 more like this within a minute: refused: {MOST}"
    assert texts(held.take(record("other"))) == [more, "other"]


def test_no_peer_and_no_round_takes_the_place_of_another(held: Repeats) -> None:
    for peer in ("a", "b", None):
        for number in (1, 2):
            extra = about(None, round=number, peer=peer)
            assert len(flood(held, 100, **extra)) == MOST
    with during(round=3):
        assert len(flood(held, 100)) == MOST
    assert len(flood(held, 100, name="smpcfl.other")) == MOST


def test_the_number_is_of_the_same_level_event_round_and_peer(held: Repeats) -> None:
    with during(round=3):
        flood(held, MOST + 1, event="refused", peer="b", levelno=logging.ERROR)
    (more,) = held.rest()
    known = (more.levelno, more.name, *(getattr(more, key) for key in ("event", "round", "peer")))
    assert known == (logging.ERROR, "smpcfl.peer", "refused", 3, "b")


def test_percent_signs_and_tracebacks_are_no_trouble(held: Repeats) -> None:
    for _ in range(MOST + 2):
        held.take(record("100 %% of %s", "x%sx" * 1000, exc_info=(KeyError, KeyError(), None)))
    (more,) = held.rest()
    text = log.TextFormatter().format(more)
    assert "2 more like this within a minute: 100 % of x%sx" in text
    assert len(text) < 400


def test_a_thousand_names_a_second_take_bounded_room(
    held: Repeats, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the names are: peers, or words within a text."""
    monkeypatch.setattr(repeats, "_KEPT", 64)
    shown = 0
    for number in range(64):
        shown += len(held.take(record(f"mDNS: {number}")))
    tracemalloc.start()
    for number in range(20_000):
        shown += len(held.take(record(f"mDNS: {number}" + "x" * 200, peer=f"peer-{number}")))
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert shown == 64 + MOST
    assert size < 100_000
    assert len(held.rest()) == 1


# -- of a handler -------------------------------------------------------------------------------------------


def test_the_log_of_a_service_holds_back_and_tells_the_rest_at_its_end(clock: Clock) -> None:
    lines = log.Lines(log.TextFormatter(), clock)
    lines.setStream(written := io.StringIO())
    for number in range(1000):
        lines.handle(record("refused: %s", number, peer="b"))
    assert len(written.getvalue().splitlines()) == MOST
    lines.close()
    last = written.getvalue().splitlines()[-1]
    assert last.endswith(f"980 more like this within a minute: refused: {MOST}  peer=b")
