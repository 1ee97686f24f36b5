"""Every query of every panel and alert, over two runs of a real stack with the real Prometheus.

Runs of `normal` and of `seeded` are made one after another (support/runs_in_turn.py).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
import yaml

from support.compose import ROOT, engine_missing
from support.dashboards import SCRAPE_S, Answer, Prometheus, Target, Window, ask, boards, fetch
from support.promql import selectors
from support.runs_in_turn import Ran, runs_in_turn

PEERS = 6
ROUNDS = {"normal": 3, "seeded": 4}
LAST = "seeded"
HOME, MODES, PEER = "smpcfl", "smpcfl-modes", "smpcfl-peer"

# In a quiet run of six peers; all other queries have to have a result.
MAY_BE_EMPTY = {
    (HOME, 61): "no alert fires",
    (HOME, 62): "no round is void",
    (HOME, 63): "no peer is lost",
    (HOME, 64): "nothing is refused",
    (HOME, 43, "C"): "in mode normal it is timed by an answer that no peer has to give",
    (HOME, 71): "a cohort of six is not cut into groups",
    (PEER, 41): "nothing is refused",
    (MODES, 11, "additive"): "there is no run of it",
    (MODES, 12, "additive"): "there is no run of it",
}
# Over the time of both runs a line for each mode, but for these: mode normal has none of it.
OF_SECURE_MODES = {(HOME, 23), (HOME, 42)}

HOUR = 3600.0
# What the numbers of a unit may be: least and most.
BOUNDS = {
    "percentunit": (0.0, 1.0),
    "none": (0.0, 1000.0),
    "s": (0.0, 600.0),
    "decbytes": (0.0, 100e6),
    "Bps": (0.0, 10e6),
    "reqps": (0.0, 1000.0),
    "suffix: ×": (0.1, 2.0),
}
OTHER_BOUNDS = {
    (HOME, 54, "certificate"): (HOUR, 25 * HOUR),
    (HOME, 55): (HOUR, 25 * HOUR),
    (PEER, 16): (HOUR, 25 * HOUR),
    (PEER, 43): (10e6, 2e9),
}

pytestmark = [
    pytest.mark.containers,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(bool(engine_missing()), reason=f"no Docker engine: {engine_missing()}"),
]


@dataclass(frozen=True)
class Seen:
    """Of both runs: the time that they took, what was recorded, and what the dashboards show of it."""

    prometheus: Prometheus
    window: Window
    records: Mapping[str, list[dict[str, Any]]]
    peers: frozenset[str]
    """Those that are there at the end."""
    answers: tuple[Answer, ...]

    def of(self, board: str, panel: int, ref: str = "") -> list[Answer]:
        found = [
            answer
            for answer in self.answers
            if (answer.target.board, answer.target.panel) == (board, panel)
            and ref in ("", answer.target.ref)
        ]
        assert found, (board, panel, ref)
        return found

    def by(self, label: str, board: str, panel: int, ref: str = "") -> dict[str, float]:
        """The last value of each series of one query, by the value of `label`."""
        (answer,) = self.of(board, panel, ref)
        return {series.labels[label]: series.last for series in answer.series}

    def last(self, mode: str) -> dict[str, Any]:
        return self.records[mode][-1]


@pytest.fixture(scope="module")
def seen() -> Iterator[Seen]:
    with runs_in_turn("smpcfl-test-dashboards", ROUNDS, PEERS) as ran:
        yield look(ran)


def look(ran: Ran) -> Seen:
    there = ran.prometheus.at('up{job="peer"} == 1 and time() - timestamp(up) < 10', ran.window.end)
    peers = frozenset(series.labels["peer"] for series in there)
    answers = [
        answer
        for uid in boards()
        for answer in fetch(
            uid, ran.prometheus, ran.window, **({"peer": min(peers)} if uid == PEER else {})
        )
    ]
    return Seen(ran.prometheus, ran.window, ran.records, peers, tuple(answers))


def among(target: Target, table: Any) -> Any:
    """What the table has for this query, or for its panel; None if nothing."""
    keys: list[Any] = [(target.board, target.panel, target.ref), (target.board, target.panel)]
    found = [key for key in keys if key in table]
    return None if not found else table[found[0]] if isinstance(table, dict) else found[0]


def faults(answer: Answer, window: Window) -> list[str]:
    """What is wrong with the answer to a query by itself."""
    target = answer.target
    if answer.error:
        return [f"errs: {answer.error}"]
    if not answer.series:
        return [] if among(target, MAY_BE_EMPTY) else ["empty"]
    found = []
    if target.unit == "dateTimeFromNow":
        least, most = window.start * 1000, window.end * 1000
    else:
        least, most = among(target, OTHER_BOUNDS) or BOUNDS[target.unit]
    for series in answer.series:
        wrong = [value for value in series.values if not least <= value <= most]
        if wrong:  # NaN as well
            found.append(f"{answer.legend(series)}: {wrong[0]} is not {least:g} to {most:g}")
        if not answer.legend(series).strip():
            found.append(f"no legend for {dict(series.labels)}")
    if "by (mode" in target.expr and (not target.instant or target.board == MODES):
        modes = {series.labels["mode"] for series in answer.series} if not target.table else set()
        expected = {LAST} if among(target, OF_SECURE_MODES) else ROUNDS.keys()
        # What may be empty may be so in one of the modes.
        if modes and modes != expected and not among(target, MAY_BE_EMPTY):
            found.append(f"modes {sorted(modes)} instead of {sorted(expected)}")
    return found


def test_the_runs_are_as_expected(seen: Seen) -> None:
    for mode, rounds in ROUNDS.items():
        assert [record["round"] for record in seen.records[mode]] == list(range(1, rounds + 1))
        assert {record["outcome"] for record in seen.records[mode]} == {"complete"}
    assert len(seen.peers) == PEERS


def test_every_query_has_a_result_of_the_right_magnitude(seen: Seen) -> None:
    wrong = [
        f"{answer.target.board} {answer.target.panel} {answer.target.title!r}: {fault}\n  {answer.query}"
        for answer in seen.answers
        for fault in faults(answer, seen.window)
    ]
    print(f"{len(seen.answers)} queries of {len(boards())} dashboards")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("plant", "fault"),
    [
        (lambda expr: expr.replace('job="aggregator"', 'job="agregator"'), "empty"),
        (lambda expr: expr.replace("smpcfl_model_accuracy", "smpcfl_accuracy"), "empty"),
        (lambda expr: expr.replace("=~", '="seeded", mode=~'), "modes ['seeded'] instead of"),
        (lambda expr: f"100 * ({expr})", "is not 0 to 1"),
        (lambda expr: f"({expr}) / 0 * 0", "nan is not 0 to 1"),
        (lambda expr: f"{expr})", "errs: "),
        (lambda expr: expr.replace("by (mode)", "by (job)"), "no legend for"),
    ],
    ids=["job", "metric", "mode", "percent", "nan", "syntax", "label"],
)
def test_a_planted_mistake_is_found(seen: Seen, plant: Callable[[str], str], fault: str) -> None:
    (answer,) = seen.of(HOME, 17)
    window = replace(seen.window, variables={"mode": "(normal|seeded)"})
    assert not faults(ask(answer.target, seen.prometheus, window), window)
    planted = replace(answer.target, expr=plant(answer.target.expr))
    assert planted.expr != answer.target.expr
    found = faults(ask(planted, seen.prometheus, window), window)
    assert any(fault in item for item in found), found


def test_accuracy_and_loss_are_those_recorded(seen: Seen) -> None:
    for metric, panel, by_round, at_last in (("accuracy", 13, 11, 21), ("loss", 14, 12, 22)):
        assert seen.by("mode", HOME, panel)[LAST] == seen.last(LAST)[metric]
        last = seen.by("mode", MODES, at_last)
        for mode, records in seen.records.items():
            assert last[mode] == records[-1][metric]
            shown = seen.by("round", MODES, by_round, mode)
            recorded = {str(record["round"]): record[metric] for record in records}
            assert shown.items() <= recorded.items()
            # Until the next one ends, which took longer than it takes Prometheus to look again.
            long_enough = {
                str(record["round"] - 1) for record in records if record["seconds"] > 2 * SCRAPE_S
            }
            assert (long_enough - {"0"}) | {str(records[-1]["round"])} <= shown.keys()


def test_the_ratio_is_that_of_the_record(seen: Seen) -> None:
    compared = seen.by("mode", MODES, 26)
    assert compared.keys() == ROUNDS.keys()
    for mode, ratio in compared.items():
        record = seen.last(mode)
        sent = record["bytes_up"] + record["bytes_p2p"]
        assert ratio == pytest.approx(sent / record["plain_bytes"], rel=1e-9)
    assert seen.by("mode", HOME, 31)[LAST] == compared[LAST]
    assert compared["normal"] == pytest.approx(1), "an update in the clear is a plain update"


def test_bytes_by_channel_are_those_of_the_record(seen: Seen) -> None:
    for mode in ROUNDS:
        record = seen.last(mode)
        sent = {
            "flower": record["bytes_up"] - record["unmask_up"],
            "unmask": record["unmask_up"],
            "p2p": record["bytes_p2p"],
        }
        received = {
            "flower": record["bytes_down"] - record["unmask_down"],
            "unmask": record["unmask_down"],
            "p2p": record["bytes_p2p"],
        }
        for flow, compared, over_time in ((sent, 24, 33), (received, 25, 34)):
            for ref, (channel, count) in zip("ABC", flow.items(), strict=True):
                assert seen.by("mode", MODES, compared, channel)[mode] == pytest.approx(count)
                assert seen.by("mode", HOME, over_time, ref)[mode] == pytest.approx(count)
    assert seen.by("mode", HOME, 32)[LAST] == pytest.approx(seen.last(LAST)["plain_bytes"])


def test_what_each_peer_counts_is_near_what_the_aggregator_counts(seen: Seen) -> None:
    """Near: an increase between scrapes is estimated, and the first ones of a run are missing."""
    record = seen.last(LAST)
    up = record["bytes_up"] - record["unmask_up"]
    flower = seen.by("peer", HOME, 36, "flower")
    assert seen.peers <= flower.keys()
    for peer in seen.peers:
        assert 0.6 * up < flower[peer] < 1.7 * up
        assert seen.by("peer", HOME, 36, "p2p")[peer] > 0.5 * record["bytes_p2p"]


def test_times_are_those_recorded(seen: Seen) -> None:
    means = seen.by("mode", MODES, 23)
    for mode, records in seen.records.items():
        seconds = [record["seconds"] for record in records]
        assert means[mode] == pytest.approx(sum(seconds) / len(seconds))
    assert seen.by("mode", HOME, 16)[LAST] == means[LAST]
    (answer,) = seen.of(HOME, 41)
    assert {series.labels["phase"] for series in answer.series} >= {"train", "unmask", "sum"}
    for series in answer.series:
        phase = series.labels["phase"]
        found = [r["phase_seconds"].get(phase, 0.0) for r in seen.records[series.labels["mode"]]]
        assert min(found) * 0.999 <= min(series.values) <= max(series.values) <= max(found) * 1.001
    (answer,) = seen.of(HOME, 42)
    phases = {series.labels["phase"] for series in answer.series}
    assert phases == {"exchange", "ready", "agree"}


def test_survivors_outcomes_and_the_guarantee_are_those_recorded(seen: Seen) -> None:
    assert seen.by("mode", MODES, 27) == dict.fromkeys(ROUNDS, 1.0)
    assert seen.by("mode", MODES, 28, "complete") == ROUNDS
    assert seen.by("mode", MODES, 28, "void") == dict.fromkeys(ROUNDS, 0.0)
    withstood = seen.last(LAST)["withstood"]
    assert withstood > 0
    assert seen.by("mode", HOME, 21) == {LAST: withstood}
    assert seen.by("mode", HOME, 22) == {LAST: pytest.approx(withstood / PEERS)}
    assert seen.by("mode", HOME, 23, "A") == seen.by("mode", HOME, 23, "B") == {LAST: withstood}
    assert seen.by("mode", HOME, 65)[LAST] == 0


def test_who_is_there(seen: Seen) -> None:
    last_seen = seen.by("peer", HOME, 54, "seen")
    for peer in seen.peers:
        assert seen.window.end - last_seen[peer] / 1000 < 3 * SCRAPE_S
        for via in ("mdns", "registry"):
            assert seen.by("peer", HOME, 54, via)[peer] == PEERS
        for direction in ("sent", "received"):
            assert seen.by("peer", HOME, 54, direction)[peer] > 0
    assert last_seen.keys() - seen.peers, "those of the run before are still known"
    assert seen.by("job", HOME, 53) == {"aggregator": 1, "registry": 1, "peer": PEERS}


def test_one_peers_board_is_about_that_peer(seen: Seen) -> None:
    for answer in seen.answers:
        if answer.target.board == PEER:
            assert f'peer="{min(seen.peers)}"' in answer.query
    rounds, cohort = (answer.series[0].last for answer in seen.of(PEER, 13))
    assert (rounds, cohort) == (ROUNDS[LAST], PEERS)


def alerts() -> list[Any]:
    groups = yaml.safe_load((ROOT / "prometheus/alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_what_there_is_and_is_quiet(seen: Seen, rule: Any) -> None:
    seen.prometheus.over(rule["expr"], seen.window)  # it does not err
    for name, matchers in selectors(rule["expr"]):
        selector = ",".join(f"{label}{value}" for label, value in matchers.items())
        found = seen.prometheus.over(f"{name}{{{selector}}}", seen.window)
        assert found, f"{name}{{{selector}}} selects nothing"
        assert all(math.isfinite(value) for series in found for value in series.values)
    loaded = seen.prometheus.get("rules", type="alert")["groups"]
    (now,) = (r for group in loaded for r in group["rules"] if r["name"] == rule["alert"])
    assert now["health"] == "ok", now
    assert now["state"] != "firing", now
    assert now["annotations"]["dashboard"] == rule["annotations"]["dashboard"]


def test_no_variable_is_left_in_a_query(seen: Seen) -> None:
    assert not [answer.query for answer in seen.answers if re.search(r"\$\w", answer.query)]
