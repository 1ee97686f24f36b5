"""A run is shown until it ends, by whatever way, and the last line says how."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from smpcfl.base.state import State
from smpcfl.cli import follow
from smpcfl.cli.follow import Follower, result
from smpcfl.protocol.errors import LocalError
from smpcfl.reports.record import RoundRecord
from smpcfl.runs import current_run
from smpcfl.runs.current_run import COMPLETED, FAILED, STOPPED, CurrentRun
from support.fake_runs import FakeRuns, a_record

RUN = 5
RAISED = "ServerApp failed with exception: no such file"


class Followed:
    """Run `RUN`, carried by Flower run 9, and what was shown of it."""

    def __init__(self, folder: Path) -> None:
        self.path = State(folder).current_run
        self.runs = FakeRuns()
        self.shown = ""
        self.said: list[str] = []
        self.save(flower_run="9")
        self.follower = Follower(cast(Any, self.runs), folder, self._write, self.said.append)

    def _write(self, text: str) -> None:
        self.shown += text

    def save(self, **members: Any) -> None:
        current_run.save(self.path, CurrentRun("app", {"num-rounds": 2}, RUN, **members))

    async def to_the_end(self) -> CurrentRun:
        return await self.follower.to_the_end(RUN)


@pytest.fixture
def followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Followed:
    monkeypatch.setattr(follow, "_POLL_S", 0.0)
    return Followed(tmp_path)


@pytest.mark.parametrize("end", [COMPLETED, STOPPED])
async def test_it_ends_when_flower_says_so_and_does_not_wait_for_the_aggregator(
    end: str, followed: Followed
) -> None:
    followed.runs.add("9", prints="\x1b[92mhello\x1b[0m\nround 1\n")
    followed.runs.steps = [lambda: followed.runs.becomes("9", f"finished:{end}")]
    assert (await followed.to_the_end()).ended == end
    assert followed.shown == "hello\nround 1\n", "without colours where there is no terminal"
    kept = current_run.load(followed.path)
    assert kept is not None
    assert kept.ended == end, "noted, so that another run may start"


async def test_an_app_that_raises_ends_it_with_its_own_words(followed: Followed) -> None:
    words = "Traceback (most recent call last):\nFileNotFoundError: no such file\n"
    followed.runs.add("9", prints=words)
    followed.runs.steps = [lambda: followed.runs.becomes("9", "finished:failed", RAISED)]
    over = await followed.to_the_end()
    text = RAISED.removeprefix("ServerApp failed with exception: ")
    assert (over.ended, over.reason) == (FAILED, f"{text}\n{words.rstrip()}")
    with pytest.raises(LocalError, match=f"^run {RUN} failed after 0 of 2 rounds: {text}$"):
        result(over, [], "seeded")


async def test_nothing_is_shown_twice_when_the_superlink_was_away(followed: Followed) -> None:
    def away() -> None:
        followed.runs.down = True
        followed.runs.prints["9"] += "two\n"
        load = followed.follower._load
        followed.follower._load = lambda run: (  # type: ignore[method-assign]
            setattr(followed.runs, "down", False),
            load(run),
        )[1]

    followed.runs.add("9", prints="one\n")
    followed.runs.steps = [away, lambda: followed.runs.becomes("9", "finished:completed")]
    assert (await followed.to_the_end()).ended == COMPLETED
    assert followed.shown == "one\ntwo\n"
    assert followed.said == ["waiting: no SuperLink"]


async def test_a_run_that_was_cut_off_is_followed_where_it_goes_on(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def meanwhile(_: float) -> None:
        followed.runs.add("10", prints="resuming\n")
        followed.save(flower_run="10", mode="seeded")

    monkeypatch.setattr("smpcfl.cli.follow.asyncio.sleep", meanwhile)
    followed.runs.add("9", prints="one\n")
    followed.runs.steps = [
        lambda: followed.runs.becomes("9", "finished:failed", "no heartbeat"),
        lambda: followed.runs.becomes("10", "finished:completed"),
    ]
    assert (await followed.to_the_end()).flower_run == "10"
    assert followed.shown == "one\nresuming\n"
    assert followed.said == ["Flower run 9 was cut off: the aggregator goes on with it"]


async def test_a_run_whose_place_another_took_is_an_error(followed: Followed) -> None:
    current_run.save(followed.path, CurrentRun("app", {}, 6))
    with pytest.raises(LocalError, match="run 5 was given up for another"):
        await followed.to_the_end()


OVER = CurrentRun("app", {"num-rounds": 2}, RUN, "9", COMPLETED)
DONE = a_record(run=RUN, round=1, accuracy=0.5, loss=1.25, seconds=3.0)
VOID = a_record(run=RUN, round=2, outcome="void", reason="too_few_survivors", seconds=4.0)


@pytest.mark.parametrize(
    ("over", "records", "text"),
    [
        (OVER, [DONE, VOID], "run 5 is complete: 1 of 2 rounds, accuracy 0.500, loss 1.250, 7 s"),
        (replace(OVER, mode="normal"), [], "run 5 is complete"),
    ],
)
def test_a_run_with_a_round_has_a_result(
    over: CurrentRun, records: list[RoundRecord], text: str
) -> None:
    assert result(over, [a_record(run=4, round=9), *records], "seeded") == text


@pytest.mark.parametrize(
    ("over", "records", "text"),
    [
        (OVER, [VOID], "run 5: no round completed; the last one: too_few_survivors"),
        (OVER, [], "the app ended without a round; its ServerApp has to train with"),
        (replace(OVER, ended=STOPPED), [DONE], "run 5 was stopped after 1 of 2 rounds"),
        (replace(OVER, ended=FAILED), [], "failed after 0 of 2 rounds: no reason given"),
    ],
)
def test_a_run_without_one_is_an_error(
    over: CurrentRun, records: list[RoundRecord], text: str
) -> None:
    with pytest.raises(LocalError, match=text):
        result(over, records, "seeded")
