"""A strategy that goes on from its checkpoint, as if it had not been interrupted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Message,
    MessageType,
    MetricRecord,
    RecordDict,
)
from flwr.serverapp.strategy import FedAdam, FedAvg, FedAvgM, Result, Strategy
from flwr.supercore.task_identity import TaskIdentity

from smpc.v1 import local_pb2 as pb
from smpcfl.base.ledger_file import open_ledger
from smpcfl.base.state import State
from smpcfl.flower import SecureStrategy
from smpcfl.flower.server import progress
from smpcfl.flower.server import strategy as strategy_module
from smpcfl.flower.server.secure_grid import SecureGrid
from smpcfl.flower.server.secure_round import Outcome
from smpcfl.flower.server.service_link import Server
from smpcfl.flower.shared.records import to_numpy
from smpcfl.protocol.errors import LocalError
from smpcfl.protocol.trailer import Trailer
from smpcfl.runs import current_run
from smpcfl.runs.checkpoint import Checkpoints
from smpcfl.runs.current_run import COMPLETED, CurrentRun
from support.disk import small_disk

ROUNDS = 6
RUN = 77


class Killed(Exception):
    pass


class Scripted(SecureGrid):
    """Rounds whose model follows from everything that a round is given; `before` runs before each."""

    before = staticmethod(lambda number: None)

    def _in_the_clear(self, messages: list[Message], timeout: float | None) -> Outcome:
        number = self.number
        Scripted.before(number)
        if number == 3:
            return Outcome(reason="too_few_survivors", cohort=3)
        given = to_numpy(messages[0].content.array_records["arrays"])["w"]
        rng = np.random.default_rng((number, self.settings.seed or 0))
        step = rng.random(given.shape) * self.clipping.clip / self.clipping.weight_cap
        trailer = Trailer(3, 3, 3, 30, 30, clipped=number % 2, roomy=0, capped=0)
        content = RecordDict(
            {
                "arrays": ArrayRecord({"w": Array((given + step).astype(np.float32))}),
                "metrics": MetricRecord({"num-examples": 30}),
            }
        )
        reply = Message(content=content, message_type=MessageType.TRAIN, dst_node_id=0)
        return Outcome(replies=[reply], trailer=trailer, cohort=3, survivors=3)


class Aggregator:
    """Its state folder, and the events that its service gets."""

    def __init__(self, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.state = state
        self.events: list[pb.RunEvent] = []
        self.flower_run = ""
        monkeypatch.setenv("SMPCFL_AGGREGATOR_STATE", str(state))
        monkeypatch.setattr(Server, "report", lambda _, event: self.events.append(event))

    def submit(self, flower_run: str) -> None:
        self.flower_run = flower_run
        current_run.save(
            State(self.state).current_run, CurrentRun("app", {}, RUN, flower_run=flower_run)
        )

    def start(
        self,
        kill_in: int = 0,
        seed: int = 1,
        shape: tuple[int, ...] = (4,),
        before: Callable[[int], None] = lambda number: None,
        inner: Strategy | None = None,
    ) -> Result:
        """One ServerApp, from its first line on. `before` is called before each round."""

        def each(number: int) -> None:
            before(number)
            if number == kill_in:
                raise Killed

        strategy = SecureStrategy(inner or FedAvg(fraction_evaluate=0.0), mode="normal", seed=seed)
        Scripted.before = staticmethod(each)
        initial = ArrayRecord({"w": Array(np.ones(shape, np.float32))})
        run = SimpleNamespace(run_id=int(self.flower_run))
        grid = cast(Any, SimpleNamespace(run=run, get_node_ids=lambda: range(1, 6)))
        config = ConfigRecord({"lr": 0.1})
        return strategy.start(grid, initial, num_rounds=ROUNDS, train_config=config)

    @property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(State(self.state).checkpoints)

    @property
    def recorded(self) -> list[tuple[int, int]]:
        records = [event.record for event in self.events if event.HasField("record")]
        return [(record.run, record.round) for record in records]

    @property
    def said(self) -> list[str]:
        return [event.line.text for event in self.events if event.HasField("line")]


@pytest.fixture
def aggregator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Aggregator:
    monkeypatch.setattr(progress, "_started", set())
    monkeypatch.setattr(strategy_module, "SecureGrid", Scripted)
    for name in ("_run_id", "_node_id", "_task_id"):  # else Flower makes no messages
        monkeypatch.setattr(TaskIdentity, name, 1)
    return Aggregator(tmp_path, monkeypatch)


def bits(result: Result) -> bytes:
    return to_numpy(result.arrays)["w"].tobytes()


@pytest.mark.parametrize("kill_in", range(1, ROUNDS + 1))
def test_killed_in_any_round_it_ends_with_the_same_model(
    kill_in: int, aggregator: Aggregator
) -> None:
    aggregator.submit("1")
    undisturbed = bits(aggregator.start())
    for path in aggregator.checkpoints.folder.iterdir():
        path.unlink()
    aggregator.events.clear()

    aggregator.submit("2")
    with pytest.raises(Killed):
        aggregator.start(kill_in)
    aggregator.submit("3")
    assert bits(aggregator.start()) == undisturbed
    starts = [event.start for event in aggregator.events if event.HasField("start")]
    assert [(start.run, start.done) for start in starts] == [(RUN, 0), (RUN, kill_in - 1)]
    # The last record before the end is sent again, in case it was lost with the process.
    again = [(RUN, kill_in - 1)] if kill_in > 1 else []
    rounds = [(RUN, number) for number in range(1, ROUNDS + 1)]
    assert aggregator.recorded == rounds[: kill_in - 1] + again + rounds[kill_in - 1 :]


@pytest.mark.parametrize("kill_in", [2, 4, 5])
@pytest.mark.parametrize(
    "make", [lambda: FedAvgM(server_momentum=0.9), lambda: FedAdam(beta_1=0.9, beta_2=0.99)]
)
def test_what_the_strategy_remembers_is_there_again(
    make: Callable[[], Strategy], kill_in: int, aggregator: Aggregator
) -> None:
    aggregator.submit("1")
    undisturbed = bits(aggregator.start(inner=make()))
    for path in aggregator.checkpoints.folder.iterdir():
        path.unlink()
    aggregator.submit("2")
    with pytest.raises(Killed):
        aggregator.start(kill_in, inner=make())
    aggregator.submit("3")
    assert bits(aggregator.start(inner=make())) == undisturbed


def test_after_the_last_round_nothing_is_trained_again(aggregator: Aggregator) -> None:
    aggregator.submit("1")
    whole = bits(aggregator.start())
    aggregator.submit("2")
    assert bits(aggregator.start(kill_in=1)) == whole


def test_a_damaged_checkpoint_costs_one_round_and_changes_nothing(aggregator: Aggregator) -> None:
    aggregator.submit("1")
    undisturbed = bits(aggregator.start())
    newest = aggregator.checkpoints.folder / f"run-{RUN}-round-{ROUNDS}"
    newest.write_bytes(newest.read_bytes()[:-1])
    aggregator.submit("2")
    assert bits(aggregator.start()) == undisturbed
    said = aggregator.said
    assert any(f"{newest} is damaged and left out: its checksum" in text for text in said)


def test_another_model_is_refused_and_another_seed_is_said(aggregator: Aggregator) -> None:
    aggregator.submit("1")
    with pytest.raises(Killed):
        aggregator.start(kill_in=3)
    aggregator.submit("2")
    with pytest.raises(LocalError, match="checkpoint of round 2 is of another model"):
        aggregator.start(shape=(5,))
    aggregator.submit("3")
    aggregator.start(seed=2)
    said = aggregator.said
    assert "not as if it had not been interrupted: seed was 1, now 2" in said


def test_one_that_was_given_up_for_another_ends(aggregator: Aggregator) -> None:
    """Its process may have outlived the SuperLink."""
    aggregator.submit("1")
    aggregator.submit("2")
    aggregator.flower_run = "1"
    aggregator.start(kill_in=0)  # not one of ours any more: no checkpoints
    assert not aggregator.checkpoints.folder.exists()

    aggregator.submit("3")

    def taking_over(number: int) -> None:
        if number == 2:
            aggregator.submit("4")

    with pytest.raises(LocalError, match="another Flower run carries this training now"):
        aggregator.start(before=taking_over)
    assert aggregator.checkpoints.newest_round(RUN) == 1


def test_only_the_first_start_of_a_server_app_is_kept(aggregator: Aggregator) -> None:
    aggregator.submit("1")
    aggregator.start()
    with pytest.raises(Killed):
        aggregator.start(kill_in=2)
    assert aggregator.checkpoints.newest_round(RUN) == ROUNDS


def test_a_run_that_ended_lends_its_checkpoints_to_no_other(aggregator: Aggregator) -> None:
    aggregator.submit("1")
    aggregator.start()
    ended = CurrentRun("app", {}, RUN, flower_run="1", ended=COMPLETED)
    current_run.save(State(aggregator.state).current_run, ended)
    aggregator.flower_run = "2"
    with pytest.raises(Killed):
        aggregator.start(kill_in=1)


def test_a_disk_that_fills_up_is_said_loudly_and_training_goes_on(
    aggregator: Aggregator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aggregator.submit("1")
    undisturbed = bits(aggregator.start())
    with small_disk(tmp_path / "disk", monkeypatch) as disk:
        small = Aggregator(disk.folder, monkeypatch)
        small.submit("2")

        def filling(number: int) -> None:
            if number == 2:
                disk.fill()

        monkeypatch.setattr(progress.time, "sleep", lambda _: disk.make_room())
        assert bits(small.start(before=filling)) == undisturbed
        said = small.said
        assert sum("NO CHECKPOINT of round" in text for text in said) == ROUNDS - 1
        # The last model is not let go of before there is room for it.
        kept = small.checkpoints.latest(RUN)
        assert kept is not None
        assert (kept.round, kept.arrays["w"].tobytes()) == (ROUNDS, undisturbed)


def test_a_full_disk_is_an_error_before_training_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk(tmp_path / "disk", monkeypatch) as disk:
        small = Aggregator(disk.folder, monkeypatch)
        small.submit("5")
        open_ledger(State(disk.folder).ledger)  # as an earlier run left it
        disk.fill()
        with pytest.raises(LocalError, match="training does not start"):
            small.start()
        assert small.recorded == []
