"""What the demo makes of a run that goes wrong, without its processes."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from smpcfl.aggregator import submission
from smpcfl.aggregator.flower_runs import Runs
from smpcfl.base.state import State
from smpcfl.cli import demo
from smpcfl.cli.live_page import Follow
from smpcfl.cli.stack import Stack
from smpcfl.cli.wanted import Wanted
from smpcfl.daemons.allowed_apps import hash_of
from smpcfl.daemons.bundled import BUNDLED
from smpcfl.protocol.errors import LocalError
from smpcfl.reports.record import RoundRecord
from smpcfl.runs import current_run
from smpcfl.runs.current_run import COMPLETED, FAILED, CurrentRun
from support.fake_runs import a_record

WHY = "2 of 5 survive"
FAILED_ON_ALL = "too_few_contributors: training failed on too many peers"


def record(number: int, outcome: Any, accuracy: float | None = 0.5, why: str = WHY) -> RoundRecord:
    reason = "" if outcome == "complete" else why
    return a_record(round=number, outcome=outcome, reason=reason, accuracy=accuracy, loss=1.0)


def ran(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    outcomes: list[str],
    ended: str,
    reason: str = "",
    *,
    app: Path | None = None,
    accuracy: float | None = 0.5,
    modes: tuple[str, ...] = ("seeded",),
    repeat: int = 1,
    prints: str = "",
    tracebacks: int = 0,
    why: str = WHY,
) -> list[CurrentRun]:
    """The runs that the demo asked a stack for, whose two rounds then went like that; its exit code was 0."""
    asked: list[CurrentRun] = []

    async def submit(runs: Any, path: Path, training: CurrentRun) -> CurrentRun:
        records = [record(number, item, accuracy, why) for number, item in enumerate(outcomes, 1)]
        State(path.parent).records.write_text("".join(item.to_json() + "\n" for item in records))
        current_run.save(path, CurrentRun("app", {}, 1, "9", ended, reason))
        State(path.parent).results.mkdir()
        for peer in range(tracebacks):
            log = State(path.parent.parent / f"peer-{peer}").log("supernode")
            log.parent.mkdir(parents=True)
            log.write_text(f"Traceback (most recent call last):\n  here\nValueError: {peer}\n")
        if app is not None:
            (State(path.parent).results / "model.txt").write_text("4.2")
        asked.append(training)
        return training

    async def printed(runs: Runs, run_id: str) -> str:
        assert run_id == "9"
        return prints

    def asleep(_: float) -> None:
        raise AssertionError("it waits for nothing")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(demo, "find_spec", lambda name: name)
    monkeypatch.setattr(submission, "submit", submit)
    monkeypatch.setattr(Runs, "printed", printed)
    monkeypatch.setattr(Stack, "__enter__", lambda self: self)
    monkeypatch.setattr(Stack, "answers", lambda self: True)
    monkeypatch.setattr(Follow, "look", lambda self: None)
    monkeypatch.setattr("smpcfl.cli.stack.time.sleep", asleep)
    wanted = Wanted(app, rounds=2 if app is None else None)
    assert demo.compare(modes, wanted, repeat, tmp_path / "report", with_page=False) == 0
    return asked


def reported(tmp_path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((tmp_path / "report" / "report.json").read_text())
    return found


@pytest.mark.parametrize("outcomes", [[], ["complete"]], ids=["no round", "one round"])
def test_a_run_that_failed_ends_the_demo_with_the_reason(
    outcomes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(LocalError, match=rf"failed after {len(outcomes)} of 2 rounds: no module x"):
        ran(tmp_path, monkeypatch, outcomes, FAILED, "no module x")


def test_without_a_complete_round_it_fails_and_leaves_its_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(LocalError, match="seeded: no round completed; the last one: 2 of 5 surv"):
        ran(tmp_path, monkeypatch, ["void", "void"], COMPLETED, "")
    assert reported(tmp_path)


def test_with_one_it_succeeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (asked,) = ran(tmp_path, monkeypatch, ["void", "complete"], COMPLETED)
    assert asked.app == str(BUNDLED)
    assert asked.config == {"num-rounds": 2, "seed": 1, "min-peers": 5, "expected-peers": 5}


def an_app(folder: Path, config: str = "") -> Path:
    app = folder / "app"
    app.mkdir()
    project = "[project]\nname = 'mine'\nversion = '1'\n[tool.flwr.app]\npublisher = 'me'\n"
    components = "[tool.flwr.app.components]\nserverapp = 'm:s'\nclientapp = 'm:c'\n"
    (app / "pyproject.toml").write_text(project + components + config)
    return app


def test_an_app_of_ones_own_is_run_as_it_is_and_allowed_by_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, allowed = an_app(tmp_path), []
    start = Stack.__init__

    def started(stack: Stack, *given: Any) -> None:
        start(stack, *given)
        allowed.append((stack.mode, stack.apps))

    monkeypatch.setattr(Stack, "__init__", started)
    modes = ("normal", "seeded")
    asked = ran(tmp_path, monkeypatch, ["complete"], COMPLETED, app=app, modes=modes)
    assert [(item.app, item.config) for item in asked] == [(str(app), {})] * 2
    assert sorted(allowed) == [(mode, hash_of(app)) for mode in modes]
    for mode in modes:
        assert (tmp_path / "report" / mode / "model.txt").read_text() == "4.2"


def test_where_nothing_is_evaluated_nothing_is_invented(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = an_app(tmp_path)
    ran(tmp_path, monkeypatch, ["complete"], COMPLETED, app=app, accuracy=None, repeat=2)
    found = reported(tmp_path)
    assert found["modes"]["seeded"]["accuracy"] == [None]
    assert found["meta"]["final_accuracy"] == {"seeded": [None, None]}
    printed = capsys.readouterr().out
    assert "accuracy -" in printed
    assert "seeded: final accuracy - (mean of -, -)" in printed


def test_seeds_are_one_apart_where_the_app_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = an_app(tmp_path, "[tool.flwr.app.config]\nseed = 40\nnum-server-rounds = 2\n")
    asked = ran(tmp_path, monkeypatch, ["complete"] * 2, COMPLETED, app=app, repeat=3)
    rounds = {"num-server-rounds": 2}
    assert [item.config for item in asked] == [rounds, rounds | {"seed": 41}, rounds | {"seed": 42}]
    assert (reported(tmp_path)["meta"]["seed"], reported(tmp_path)["meta"]["rounds"]) == (40, 2)


def test_secure_modes_run_first_and_the_report_keeps_the_order_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    start = Stack.__init__

    def noted(stack: Stack, *given: Any) -> None:
        start(stack, *given)
        started.append(stack.mode)

    monkeypatch.setattr(Stack, "__init__", noted)
    ran(tmp_path, monkeypatch, ["complete"] * 2, COMPLETED, modes=("normal", "seeded", "additive"))
    assert started == ["seeded", "additive", "normal"]
    assert list(reported(tmp_path)["modes"]) == ["normal", "seeded", "additive"]


def test_what_the_server_app_prints_is_kept_and_its_warnings_are_shown_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prints = "\x1b[92mhello\x1b[0m\nwarning: two peers\nround 1\nwarning: two peers\n"
    ran(tmp_path, monkeypatch, ["complete"] * 2, COMPLETED, prints=prints)
    assert capsys.readouterr().out.count("seeded: warning: two peers") == 1
    log = tmp_path / "report" / "seeded" / "server.log"
    assert log.read_text().splitlines()[:2] == ["hello", "warning: two peers"]


def test_an_app_that_fails_on_all_peers_ends_it_after_that_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(LocalError) as error:
        ran(
            *(tmp_path, monkeypatch, ["void", "void"], COMPLETED),
            **{"tracebacks": 5, "why": FAILED_ON_ALL, "prints": "so far\n"},
        )
    assert "training failed on all 5 peers in round 1" in str(error.value)
    assert "on peer-0:\nTraceback" in str(error.value)
    assert "ValueError: 0" in str(error.value)
    assert "round 2/2" not in capsys.readouterr().out
    assert (tmp_path / "report" / "seeded" / "server.log").read_text() == "so far\n"


@pytest.mark.parametrize(
    ("outcomes", "tracebacks", "why"),
    [
        (["complete", "void"], 5, FAILED_ON_ALL),
        (["void", "complete"], 4, FAILED_ON_ALL),
        (["void", "complete"], 5, WHY),  # the tracebacks are of something else
    ],
)
def test_where_some_train_or_did_before_it_goes_on(
    outcomes: list[str],
    tracebacks: int,
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran(tmp_path, monkeypatch, outcomes, COMPLETED, tracebacks=tracebacks, why=why)
    assert reported(tmp_path)["modes"]["seeded"]["outcome"] == outcomes


def test_an_app_that_reports_no_round_is_told_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(LocalError, match=r"its ServerApp has to train with\s+smpcfl.flower.Secure"):
        ran(tmp_path, monkeypatch, [], COMPLETED, app=an_app(tmp_path))


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"app": "nowhere"}, "nowhere is no Flower app: .*No such file"),
        ({"app": "app", "rounds": 3}, "--rounds 3: the app does not declare num-rounds or"),
        ({"app": "app", "node_config": "size"}, "--node-config .*'size' is no key=value"),
    ],
)
def test_what_cannot_be_run_is_said_before_anything_starts(
    wanted: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stack, "__enter__", lambda self: pytest.fail("it started"))
    an_app(tmp_path)
    with pytest.raises(LocalError, match=said):
        demo.compare(
            ("seeded",), Wanted(**(wanted | {"app": tmp_path / wanted["app"]})), 1, tmp_path
        )
