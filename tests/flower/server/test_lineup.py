"""Who takes part: what the strategy samples, more where that is too few, and only over whom a sum may be."""

from __future__ import annotations

import logging
from collections.abc import Collection
from types import SimpleNamespace
from typing import Any, cast

import pytest

from smpcfl import __version__
from smpcfl.flower.server.lineup import Chosen, Lineup
from smpcfl.net.versions import Spoken

MODEL = bytes(32)


class Ledger:
    """Allows all but those it was told not to."""

    def __init__(self) -> None:
        self.forbidden: set[str] = set()
        self.evaluate: frozenset[str] | None = None
        self.before: tuple[frozenset[str], frozenset[str]] | None = None

    def apart(self, model: bytes, peers: Collection[str], policy: Any) -> frozenset[str]:
        return frozenset(peers) - self.forbidden

    def again(self, model: bytes, peers: Collection[str]) -> Any:
        before = self.before
        return before if before is not None and before[1] <= set(peers) else None

    def missing(self, model: bytes, peers: Collection[str]) -> list[str]:
        return sorted(self.forbidden)

    def evaluators(self, peers: Collection[str], policy: Any) -> frozenset[str]:
        return frozenset(peers) if self.evaluate is None else self.evaluate


class Grid:
    def __init__(self, count: int) -> None:
        self.nodes = list(range(1, count + 1))

    def get_node_ids(self) -> list[int]:
        return self.nodes


def lineup(count: int, least: int = 5, *, recovers: bool = True) -> tuple[Lineup, Ledger]:
    """Over `count` nodes of the peers p1, p2, ..., all of which have said who they are."""
    ledger, grid = Ledger(), Grid(count)
    others: dict[str, Spoken] = {}
    server = SimpleNamespace(
        nodes=lambda least: None, ledger=ledger, probe=None, other_protocols=lambda: others
    )
    found = Lineup(cast(Any, grid), cast(Any, server), least, recovers=recovers)
    peers = SimpleNamespace(present=lambda grid, probe: {n: f"p{n}" for n in grid.get_node_ids()})
    found._nodes = cast(Any, peers)
    return found, ledger


def names(*numbers: int) -> dict[int, str]:
    return {number: f"p{number}" for number in numbers}


def test_what_the_strategy_samples_takes_part() -> None:
    found, _ = lineup(8)
    assert found.to_train([1, 3, 5, 6, 7], MODEL) == Chosen.of(names(1, 3, 5, 6, 7))


def test_a_node_that_is_gone_is_replaced_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    found, _ = lineup(6)
    chosen = found.to_train([1, 2, 3, 4, 99], MODEL).peers
    assert len(chosen) == 5
    assert chosen.items() >= names(1, 2, 3, 4).items()
    assert not caplog.text


def test_too_small_a_sample_is_raised_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    found, _ = lineup(8)
    for _ in range(3):
        chosen = found.to_train([2, 7], MODEL).peers
        assert len(chosen) == 5
        assert chosen.items() >= names(2, 7).items()
    assert caplog.text.count("the strategy samples 2 clients: raised to min_peers, which is 5") == 1


def test_whoever_a_sum_would_show_sits_out(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    found, ledger = lineup(6)
    ledger.forbidden = {"p6"}
    assert found.to_train([1, 2, 3, 4, 5, 6], MODEL) == Chosen.of(names(1, 2, 3, 4, 5))
    assert "1 of 6 peers sit out" in caplog.text


def test_where_too_few_are_left_it_waits_for_them(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    found, ledger = lineup(5)
    ledger.forbidden = {"p2"}
    monkeypatch.setattr("time.sleep", lambda _: ledger.forbidden.clear())
    assert found.to_train([1, 2, 3, 4, 5], MODEL) == Chosen.of(names(1, 2, 3, 4, 5))
    assert "waiting for p2" in caplog.text


def test_where_every_peer_is_needed_anyway_no_ledger_is_asked() -> None:
    found, ledger = lineup(5, recovers=False)
    ledger.forbidden, ledger.evaluate = {"p1"}, frozenset()
    assert found.to_train([1, 2, 3, 4, 5], MODEL) == Chosen.of(names(1, 2, 3, 4, 5))
    assert found.to_evaluate() == Chosen.of(names(1, 2, 3, 4, 5))


def test_an_evaluation_asks_all_and_sums_over_whom_the_ledger_allows() -> None:
    found, ledger = lineup(6)
    ledger.evaluate = frozenset({"p1", "p2", "p3", "p4", "p5"})
    asked = Chosen.of(names(1, 2, 3, 4, 5, 6))
    assert found.to_evaluate() == asked._replace(within=ledger.evaluate)


def test_where_nothing_else_is_left_the_same_cohort_is_asked_for_the_same_sum() -> None:
    """With whoever of it is missing, and p6, who was not in that sum."""
    found, ledger = lineup(6)
    ledger.forbidden = {"p1", "p2"}
    cohort = frozenset({"p1", "p2", "p3", "p4", "p5", "p6", "p-gone"})
    ledger.before = (cohort, frozenset({"p1", "p2", "p3", "p4", "p5"}))
    chosen = found.to_train([1, 2, 3, 4, 5, 6], MODEL)
    assert chosen == Chosen(names(1, 2, 3, 4, 5, 6), tuple(sorted(cohort)), ledger.before[1])


def test_who_speaks_another_protocol_is_left_out_and_named_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, logger="smpcfl")
    line, _ = lineup(7)
    others = line._server.other_protocols()
    assert set(line.to_train(names(*range(1, 8)), MODEL).peers.values()) == {
        *names(*range(1, 8)).values()
    }
    others |= {"p2": Spoken("0.2.0\x1b", 3), "p6": Spoken("", 1), "gone": Spoken("0.2.0", 3)}
    for _ in range(2):
        assert line.to_train(names(*range(1, 8)), MODEL).cohort == ("p1", "p3", "p4", "p5", "p7")
        assert set(line.to_evaluate().cohort) == {"p1", "p3", "p4", "p5", "p7"}
    assert caplog.messages == [
        f"left out, as they speak another protocol than this aggregator (smpcfl {__version__}, protocol 2):"
        " p2 (smpcfl 0.2.0?, protocol 3), p6 (smpcfl of unknown version, protocol 1)"
    ]
    del others["p2"]  # it was upgraded
    assert "p2" in line.to_train(names(*range(1, 8)), MODEL).cohort
    assert len(caplog.messages) == 2
