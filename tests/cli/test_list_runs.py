"""`smpcfl runs` lists every run, and `smpcfl stop` ends one so that it stays ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from smpcfl.base.state import State
from smpcfl.cli import list_runs
from smpcfl.cli.main import main
from smpcfl.runs import current_run
from smpcfl.runs.current_run import COMPLETED, FAILED, STOPPED, CurrentRun
from support.fake_runs import FakeRuns, a_record


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeRuns:
    made = FakeRuns()
    monkeypatch.setattr(list_runs, "at_the_aggregator", lambda settings: made)
    return made


def kept(folder: Path) -> CurrentRun:
    found = current_run.load(State(folder).current_run)
    assert found is not None
    return found


def in_hand(folder: Path, **members: Any) -> CurrentRun:
    training = CurrentRun("app", {"num-rounds": 3}, 5, **members)
    current_run.save(State(folder).current_run, training)
    return training


def stop(folder: Path, *wanted: str) -> int:
    return main(["stop", *wanted, "--state", str(folder)])


def test_all_runs_are_listed_the_newest_first(
    tmp_path: Path, fake: FakeRuns, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.add("7", "finished:completed")  # a plain `flwr run`
    fake.add("8", "finished:failed")  # the one in hand, before it was cut off
    fake.add("9")
    in_hand(tmp_path, flower_run="9")
    State(tmp_path).runs.write_text(
        '{"run": 5, "flower_run": "8"}\ntorn\n{"run": 5, "flower_run": "9"}\n'
    )
    records = [a_record(run=7, round=1), a_record(run=5, round=1, outcome="void", reason="x")]
    State(tmp_path).records.write_text("".join(item.to_json() + "\n" for item in records))
    assert main(["runs", "--state", str(tmp_path)]) == 0
    lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    assert [[cell.strip() for cell in line if cell] for line in lines[1:]] == [
        ["5", "me/mine", "running", "1 of 3 rounds, 1 void", "9, 8"],
        ["7", "me/mine", "completed", "1 done", "7"],
    ]


@pytest.mark.parametrize(
    ("members", "shown"),
    [
        ({}, "waiting"),
        ({"flower_run": "9", "ended": FAILED}, "failed"),
        ({"flower_run": "9", "ended": STOPPED}, "stopped"),
    ],
)
def test_a_run_that_flower_does_not_know_is_listed_too(members: Any, shown: str) -> None:
    (row,) = list_runs.rows([], {}, CurrentRun("app", {}, 5, **members), [])
    assert (row.run, row.status) == ("5", shown)


@pytest.mark.parametrize("wanted", [[], ["5"], ["9"]], ids=["what goes on", "ours", "Flower's"])
def test_the_run_in_hand_is_stopped_and_the_aggregator_does_not_go_on_with_it(
    wanted: list[str], tmp_path: Path, fake: FakeRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.add("9")
    in_hand(tmp_path, flower_run="9")
    seen: list[str] = []
    flower_stop = fake.stop

    async def watched(run_id: str) -> None:
        seen.append(kept(tmp_path).ended)
        await flower_stop(run_id)

    monkeypatch.setattr(fake, "stop", watched)
    assert stop(tmp_path, *wanted) == 0
    assert fake.log == [("stop", "9")]
    assert seen == [STOPPED], "noted first"


@pytest.mark.parametrize(
    "members",
    [{}, {"flower_run": "9"}, {"flower_run": "9", "ended": FAILED}],
    ids=["half submitted", "cut off", "failed, and tried again at the next start"],
)
def test_a_run_that_was_left_behind_can_be_stopped(
    members: Any, tmp_path: Path, fake: FakeRuns
) -> None:
    fake.add("9", "finished:failed")
    in_hand(tmp_path, **members)
    assert stop(tmp_path) == 0
    assert kept(tmp_path).ended == STOPPED
    assert fake.log == []


def test_a_plain_flwr_run_is_stopped_and_ours_is_left_alone(
    tmp_path: Path, fake: FakeRuns, capsys: pytest.CaptureFixture[str]
) -> None:
    for run_id in ("7", "9"):
        fake.add(run_id)
    before = in_hand(tmp_path, flower_run="9")
    assert stop(tmp_path, "7") == 0
    assert kept(tmp_path) == before
    assert fake.log == [("stop", "7")]
    assert capsys.readouterr().out == "Flower run 7 stopped\n"


@pytest.mark.parametrize(("wanted", "text"), [([], "no run goes on"), (["6"], "no run 6 goes on")])
def test_where_nothing_goes_on_there_is_nothing_to_stop(
    wanted: list[str],
    text: str,
    tmp_path: Path,
    fake: FakeRuns,
    capsys: pytest.CaptureFixture[str],
) -> None:
    in_hand(tmp_path, flower_run="9", ended=COMPLETED)
    assert stop(tmp_path, *wanted) == 1
    assert capsys.readouterr().err == f"smpcfl stop: {text}: `smpcfl runs` lists them all\n"


@pytest.mark.parametrize("command", ["run", "runs", "stop"])
def test_a_folder_that_is_no_aggregators_is_named(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--state", str(tmp_path / "nowhere")]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith(
        f"smpcfl {command}: no aggregator keeps its state in {tmp_path / 'nowhere'}:"
    )
    assert shown.count("\n") == 1
