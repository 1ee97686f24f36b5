"""The training run in hand: kept through any crash, gone on with, and given up when that is no use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from smpcfl.aggregator import run_keeper
from smpcfl.aggregator.flower_runs import Runs
from smpcfl.aggregator.run_keeper import RunKeeper
from smpcfl.base import files
from smpcfl.base.config import Settings
from smpcfl.base.metrics import Metrics
from smpcfl.base.state import State
from smpcfl.daemons.bundled import BUNDLED
from smpcfl.protocol.errors import LocalError
from smpcfl.runs import current_run
from smpcfl.runs.checkpoint import Checkpoint, Checkpoints
from smpcfl.runs.current_run import COMPLETED, FAILED, STOPPED, CurrentRun

RUN = 5


class FakeRuns:
    """Flower's runs by id, with their status; each look ends what a test has queued for it."""

    def __init__(self) -> None:
        self.table: dict[str, str] = {}
        self.log: list[tuple[str, ...]] = []
        self.configs: list[Mapping[str, Any]] = []
        self.refusals: list[LocalError] = []
        self.fates: list[str] = []
        """What becomes of the next runs, once each is looked at."""
        self.why = ""

    async def start(self, app: Path, config: Mapping[str, Any]) -> str:
        if self.refusals:
            raise self.refusals.pop(0)
        run_id = str(100 + len(self.table))
        self.log.append(("start", str(app), run_id))
        self.configs.append(config)
        self.table[run_id] = "running"
        return run_id

    async def statuses(self) -> dict[str, str]:
        return dict(self.table)

    async def status(self, run_id: str) -> str:
        if self.table.get(run_id) == "running" and self.fates:
            self.table[run_id] = self.fates.pop(0)
        return self.table.get(run_id, "unknown")

    async def active(self) -> list[str]:
        return [run for run, status in self.table.items() if status == "running"]

    async def stop(self, run_id: str) -> None:
        self.log.append(("stop", run_id))
        self.table[run_id] = "finished:stopped"

    async def details(self, run_id: str) -> str:
        return self.why

    async def last_words(self, run_id: str) -> str:
        return f"the last words of {run_id}"


class Bench:
    """A RunKeeper on a state folder, that may be started again and again."""

    def __init__(self, state: Path) -> None:
        self.path = State(state).current_run
        self.runs = FakeRuns()
        self.settings = Settings(state=state, rounds=4)
        self.checkpoints = Checkpoints(State(state).checkpoints)
        self.superlink_starts = 1
        self.metrics = Metrics("seeded", CollectorRegistry())

    @property
    def kept(self) -> CurrentRun:
        found = current_run.load(self.path)
        assert found is not None
        return found

    def interrupted(self, **members: Any) -> None:
        given = {"config": {"num-rounds": 4}, "run": RUN, "flower_run": "9", **members}
        current_run.save(self.path, CurrentRun("the/app", **given))

    def done(self, number: int) -> None:
        arrays = {"w": np.zeros(1)}
        self.checkpoints.save(Checkpoint(RUN, number, 4, 1.0, 1, {}, "", arrays))

    async def start(self, looks: int, before: Callable[[], None] | None = None) -> None:
        """A new one; ends after it has looked at its run so many times. `before` the first."""
        stop = asyncio.Event()
        directory = cast(Any, type("Directory", (), {"registered": 5}))
        started = RunKeeper(
            self.settings,
            self.metrics,
            directory,
            cast(Runs, self.runs),
            lambda: self.superlink_starts,
        )
        look, left = started._look, looks

        async def counted(event: asyncio.Event) -> None:
            nonlocal left
            if before is not None and left == looks:
                before()
            await look(event)
            left -= 1
            if not left:
                stop.set()

        started._look = counted  # type: ignore[method-assign]
        await asyncio.wait_for(started.run(stop), 20)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    for name in ("_SETTLE_S", "_RETRY_S", "_FOLLOW_S", "_ASK_S", "_NO_ROOM_S"):
        monkeypatch.setattr(run_keeper, name, 0.0)
    return Bench(tmp_path)


async def test_the_first_run_is_kept_and_its_end_is_noted(bench: Bench) -> None:
    bench.runs.fates = ["running", "finished:completed"]
    await bench.start(looks=2)
    assert bench.runs.log == [("start", str(BUNDLED), "100")]
    assert bench.runs.configs[0]["expected-peers"] == 5
    assert (bench.kept.flower_run, bench.kept.ended) == ("100", COMPLETED)


@pytest.mark.parametrize("ended", [COMPLETED, STOPPED])
async def test_what_is_over_is_not_trained_again(ended: str, bench: Bench) -> None:
    bench.interrupted(ended=ended)
    await bench.start(looks=2)
    assert bench.runs.log == []
    assert bench.kept.ended == ended


async def test_a_run_that_is_over_is_logged_at_the_next_start(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.runs.fates = ["finished:completed"]
    await bench.start(looks=1)
    caplog.clear()
    caplog.set_level("INFO")
    await bench.start(looks=1)
    assert len(bench.runs.log) == 1
    run = bench.kept.run
    assert f"run {run} (4 rounds, mode seeded) is complete; start another" in caplog.text


@pytest.mark.parametrize("changed", [{"mode": "additive"}, {"rounds": 6}, {"seed": 2}], ids=str)
async def test_other_settings_make_another_first_run(
    changed: dict[str, Any], bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.runs.fates = ["finished:completed"]
    await bench.start(looks=1)
    before = bench.kept.run
    bench.settings = replace(bench.settings, **changed)
    caplog.set_level("INFO")
    bench.runs.fates = ["finished:completed"]
    await bench.start(looks=1)
    assert [entry[0] for entry in bench.runs.log] == ["start", "start"]
    assert bench.kept.run != before
    assert bench.runs.configs[1]["num-rounds"] == bench.settings.rounds
    seeds = [config["seed"] for config in bench.runs.configs]
    if bench.settings.seed:
        assert seeds[1] == bench.settings.seed
    else:  # another one for each run: over one model peers take no second configuration
        assert all(seeds)
        assert seeds[0] != seeds[1]
    assert "starting a new run: settings are now mode" in caplog.text
    await bench.start(looks=1)
    assert len(bench.runs.log) == 2


async def test_smpcfl_run_does_not_count_as_other_settings(bench: Bench) -> None:
    bench.runs.fates = ["finished:completed", "finished:completed"]
    await bench.start(looks=1)
    first = bench.kept.first
    bench.runs.table["40"] = "running"
    bench.interrupted(flower_run="40", first=first, config={"num-rounds": 9})
    await bench.start(looks=1)
    await bench.start(looks=1)
    assert len(bench.runs.log) == 1 + 2, "stopped and gone on with, nothing new"
    assert (bench.kept.run, bench.kept.ended, bench.kept.mode) == (RUN, COMPLETED, "seeded")


async def test_a_run_cut_off_in_another_mode_gives_way_to_a_new_one(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    first = {"mode": "additive", "rounds": 4, "seed": 1}
    bench.interrupted(mode="additive", first=first)
    bench.runs.table = {"9": "running"}
    await bench.start(looks=1)
    assert [entry[0] for entry in bench.runs.log] == ["stop", "start"]
    assert bench.kept.run != RUN
    assert bench.kept.mode == "seeded"
    assert f"run {RUN} (4 rounds, mode additive) did not finish, and cannot" in caplog.text


async def test_a_run_cut_off_before_other_rounds_were_set_goes_on(bench: Bench) -> None:
    bench.interrupted(mode="seeded", first={"mode": "seeded", "rounds": 9, "seed": 1})
    await bench.start(looks=1)
    assert bench.runs.log == [("start", "the/app", "100")]
    assert bench.kept.run == RUN


async def test_an_interrupted_run_goes_on_and_what_is_left_of_it_is_stopped(bench: Bench) -> None:
    bench.interrupted()
    bench.runs.table = {"8": "finished:failed", "9": "running"}
    await bench.start(looks=1)
    assert bench.runs.log == [("stop", "9"), ("start", "the/app", "102")]
    assert bench.runs.configs == [{"num-rounds": 4}]
    assert (bench.kept.run, bench.kept.flower_run, bench.kept.ended) == (RUN, "102", "")


async def test_whoever_follows_a_run_does_not_take_our_stop_for_a_users(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`smpcfl run` notes at once how the Flower run ended that it follows: here, that it was stopped."""
    bench.interrupted(mode="seeded", first=run_keeper.first_run(bench.settings))
    bench.runs.table = {"9": "running"}
    stop = bench.runs.stop

    async def stop_as_followed(run_id: str) -> None:
        followed = replace(bench.kept, flower_run=run_id)
        await stop(run_id)
        current_run.end(bench.path, followed, STOPPED)

    monkeypatch.setattr(bench.runs, "stop", stop_as_followed)
    await bench.start(looks=1)
    assert bench.runs.log == [("stop", "9"), ("start", "the/app", "101")]
    assert (bench.kept.run, bench.kept.flower_run, bench.kept.ended) == (RUN, "101", "")


@pytest.mark.parametrize(
    ("members", "status"),
    [
        ({}, "finished:failed"),
        ({}, "finished:stopped"),
        ({"flower_run": ""}, "running"),
        ({"ended": FAILED}, "finished:failed"),
    ],
    ids=["Flower gave it up", "stopped at the last start", "half submitted", "failed before"],
)
async def test_it_goes_on_however_far_it_had_come(
    members: dict[str, Any], status: str, bench: Bench
) -> None:
    bench.interrupted(**members)
    bench.runs.table = {"9": status}
    await bench.start(looks=1)
    assert bench.runs.log[-1] == ("start", "the/app", "101")
    assert (bench.kept.run, bench.kept.flower_run, bench.kept.ended) == (RUN, "101", "")


async def test_a_run_that_ended_just_before_the_crash_is_not_gone_on_with(bench: Bench) -> None:
    bench.interrupted()
    bench.runs.table = {"9": "finished:completed"}
    await bench.start(looks=1)
    assert bench.runs.log == []
    assert bench.kept.ended == COMPLETED


async def test_a_server_app_that_is_cut_off_is_tried_again_once(bench: Bench) -> None:
    bench.interrupted()
    bench.runs.fates = ["finished:failed"] * 9
    await bench.start(looks=4)
    assert [entry[0] for entry in bench.runs.log] == ["start", "start"]
    assert bench.kept.ended == FAILED
    assert bench.kept.reason == f"finished:failed\nthe last words of {bench.kept.flower_run}"


async def test_an_app_that_raises_is_not_tried_again(bench: Bench) -> None:
    bench.interrupted()
    bench.runs.why = "ServerApp failed with exception: no such file"
    bench.runs.fates = ["finished:failed"]
    await bench.start(looks=1)
    assert [entry[0] for entry in bench.runs.log] == ["start"]
    assert bench.kept.ended == FAILED
    assert bench.kept.reason.startswith("no such file")


async def test_a_superlink_that_did_not_answer_its_app_is_an_accident(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.interrupted()
    bench.runs.why = "ServerApp failed with exception: Server error '500'"

    async def words(run_id: str) -> str:
        return (
            "Traceback (most recent call last):\n  ...\nhttpx.HTTPStatusError: Server error '500'\n"
        )

    monkeypatch.setattr(bench.runs, "last_words", words)
    bench.runs.fates = ["finished:failed"]
    await bench.start(looks=1)
    assert [entry[0] for entry in bench.runs.log] == ["start", "start"]
    assert bench.kept.ended == ""


async def test_an_end_that_smpcfl_run_saw_first_is_logged_once(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    bench.interrupted(ended=STOPPED, flower_run="8")
    bench.metrics.rounds_left.set(3)
    ended = {"ended": STOPPED, "flower_run": "40"}
    await bench.start(looks=3, before=lambda: bench.interrupted(**ended))
    assert bench.runs.log == []
    told = f"run {RUN} (4 rounds) was stopped; start another with `smpcfl run`"
    assert caplog.messages.count(told) == 2, "at the start, of the one before, and then of this one"
    assert bench.metrics.registry.get_sample_value("smpcfl_rounds_left", {"mode": "seeded"}) == 0


async def test_a_run_that_is_stopped_while_it_cannot_be_submitted_is_given_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.interrupted()

    async def start(app: Path, config: Mapping[str, Any]) -> str:
        current_run.save(bench.path, replace(bench.kept, ended=STOPPED))
        raise LocalError("not now")

    monkeypatch.setattr(bench.runs, "start", start)
    await bench.start(looks=1)
    assert bench.kept.ended == STOPPED


async def test_a_run_that_is_stopped_while_it_is_submitted_is_stopped(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.interrupted()
    start = bench.runs.start

    async def stopped(app: Path, config: Mapping[str, Any]) -> str:
        flower_run = await start(app, config)
        current_run.save(bench.path, replace(bench.kept, ended=STOPPED))
        return flower_run

    monkeypatch.setattr(bench.runs, "start", stopped)
    await bench.start(looks=1)
    assert bench.runs.log == [("start", "the/app", "100"), ("stop", "100")]
    assert bench.kept.ended == STOPPED


@pytest.mark.parametrize("what", ["a round", "the SuperLink"])
async def test_it_is_tried_on_as_long_as_something_happens_in_between(
    what: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.interrupted()
    status, number = bench.runs.status, 0

    async def happening(run_id: str) -> str:
        nonlocal number
        number += 1
        if what == "a round":
            bench.done(number)
        else:
            bench.superlink_starts += 1
        return await status(run_id)

    bench.runs.fates = ["finished:failed"] * 5
    monkeypatch.setattr(bench.runs, "status", happening)
    await bench.start(looks=5)
    assert len(bench.runs.log) == 6
    assert bench.kept.ended == ""


async def test_a_run_that_is_refused_ends_with_the_reason(bench: Bench) -> None:
    bench.interrupted()
    bench.runs.refusals = [LocalError("no such app")] * 3
    await bench.start(looks=1)
    assert (bench.kept.ended, bench.kept.reason) == (FAILED, "no such app")


@pytest.mark.parametrize("fate", ["completed", "stopped", "failed"])
async def test_no_rounds_are_left_however_a_run_ends(fate: str, bench: Bench) -> None:
    bench.interrupted()
    bench.metrics.rounds_left.set(3)
    bench.runs.fates = [f"finished:{fate}"] * 2
    await bench.start(looks=2)
    assert bench.kept.ended == fate
    assert bench.metrics.registry.get_sample_value("smpcfl_rounds_left", {"mode": "seeded"}) == 0


async def test_it_waits_for_room_and_says_so(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bench.interrupted()
    tries = iter([files.StorageError("no room"), files.StorageError("no room"), None])

    def check(folder: Path, least: int) -> None:
        if (error := next(tries)) is not None:
            assert bench.runs.log == []
            raise error

    monkeypatch.setattr(files, "check", check)
    await bench.start(looks=1)
    assert caplog.text.count(f"run {RUN} waits: no room") == 2
    assert bench.runs.log == [("start", "the/app", "100")]


async def test_one_started_by_smpcfl_run_is_followed_and_gone_on_with(bench: Bench) -> None:
    """That process may be gone long since."""
    bench.settings = Settings(state=bench.settings.state, rounds=0)
    bench.runs.table = {"40": "running"}
    bench.runs.fates = ["running", "finished:failed", "finished:completed"]
    await bench.start(looks=3, before=lambda: bench.interrupted(flower_run="40"))
    assert bench.runs.log == [("start", "the/app", "101")]
    assert (bench.kept.run, bench.kept.ended) == (RUN, COMPLETED)


def test_a_server_app_learns_whether_its_run_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, where there is nothing to wait for."""
    monkeypatch.delattr(current_run.time, "sleep")
    path = State(tmp_path).current_run
    assert current_run.of_flower_run(path, "9") is None
    current_run.save(path, CurrentRun("app", {}, RUN, flower_run="9"))
    found = current_run.of_flower_run(path, "9")
    assert found is not None
    assert found.run == RUN
    assert current_run.of_flower_run(path, "10") is None


def test_a_server_app_that_is_faster_than_its_submission_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = State(tmp_path).current_run
    current_run.save(path, CurrentRun("app", {}, RUN))

    def submitted(_: float) -> None:
        current_run.save(path, CurrentRun("app", {}, RUN, flower_run="9"))

    monkeypatch.setattr(current_run.time, "sleep", submitted)
    assert current_run.of_flower_run(path, "9") == current_run.load(path)


def test_a_file_that_is_not_ours_is_named(tmp_path: Path) -> None:
    path = State(tmp_path).current_run
    for text in ("", "{}", '{"app": "x", "more": 1}', "[]", "7", '"app"', '["app"]'):
        path.write_text(text)
        with pytest.raises(LocalError, match=r"training\.json is unreadable .* remove it"):
            current_run.load(path)
