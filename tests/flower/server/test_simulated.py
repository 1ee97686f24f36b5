"""An app in Flower's simulation engine, unchanged: its ServerApp finds that out, and the sum is as elsewhere.

Over real gRPC to the hub's Unix socket, with ClientApps one after another.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg
from flwr.supercore.task_identity import TaskIdentity

from smpcfl.flower import SecureStrategy
from smpcfl.flower.client.agent_client import VARIABLE
from smpcfl.flower.server import simulated
from smpcfl.flower.server.clipping import Clipping
from smpcfl.net import hub_socket
from smpcfl.protocol.errors import LocalError
from smpcfl.reports.record import RoundRecord
from smpcfl.simulation import run_folder
from smpcfl.simulation.hub_process import HubProcess
from support.engine import InMemoryGrid

pytestmark = pytest.mark.commands
ENTRIES = 50


@pytest.fixture(autouse=True)
def end(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], None]]:
    """As the engine starts it. What is left for the end of the process happens after each test, or now."""
    at_exit = []
    monkeypatch.setattr(simulated, "at_exit", lambda *call: at_exit.append(call))
    monkeypatch.setattr(hub_socket.tempfile, "tempdir", str(tmp_path_factory.mktemp("s")))
    monkeypatch.delenv(VARIABLE, raising=False)
    for name in ("_task_id", "_run_id", "_node_id"):  # Flower's messages want to know
        monkeypatch.setattr(TaskIdentity, name, 1)
    monkeypatch.setattr(logging.getLogger("smpcfl"), "handlers", [])

    def end() -> None:
        while at_exit:
            function, *arguments = at_exit.pop()
            function(*arguments)

    yield end
    end()
    assert not list(Path(hub_socket.tempfile.gettempdir()).iterdir()), "nothing is left"


def app(message: Message, context: Context) -> Message:
    """Adds to each entry a hundredth for each partition up to its own."""
    partition = int(context.node_config["partition-id"])
    metrics = MetricRecord({"num-examples": 10 + partition, "loss": float(partition)})
    if message.metadata.message_type == "evaluate":
        return Message(RecordDict({"metrics": metrics}), reply_to=message)
    array = message.content["arrays"]["w"].numpy() + np.float32(0.01 * (partition + 1))
    content = {"arrays": ArrayRecord({"w": Array(array)}), "metrics": metrics}
    return Message(RecordDict(content), reply_to=message)


def failing(message: Message, context: Context) -> Message:
    if context.node_config["partition-id"] == 1:
        raise ValueError("no data here")
    return app(message, context)


def train(
    grid: InMemoryGrid, rounds: int = 2, evaluate: float = 0.0, **options: object
) -> tuple[np.ndarray, list[RoundRecord]]:
    strategy = SecureStrategy(
        FedAvg(fraction_evaluate=evaluate, min_evaluate_nodes=0),
        min_peers=3,
        clipping=Clipping(1.0, 16),
        width=64,
        **options,
    )
    initial = ArrayRecord({"w": Array(np.zeros(ENTRIES, np.float32))})
    result = strategy.start(grid, initial, num_rounds=rounds)
    return result.arrays["w"].numpy(), strategy.records


def expected(partitions: range | list[int], cap: int = 16) -> float:
    """What one round of plain averaging adds, with the cap on weights."""
    weights = [min(10 + p, cap) for p in partitions]
    return float(np.average([0.01 * (p + 1) for p in partitions], weights=weights))


def test_an_unchanged_app_is_averaged_as_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    arrays, records = train(InMemoryGrid(app, 6), 1)
    np.testing.assert_allclose(arrays, expected(range(6)), rtol=1e-6)
    assert [record.outcome for record in records] == ["complete"]
    assert (records[0].cohort, records[0].survivors) == (6, 6)
    assert records[0].bytes_p2p > 0
    printed = capsys.readouterr().out
    assert run_folder.SAID in printed
    assert "no TLS" in run_folder.SAID
    assert "keeps nothing secret" in run_folder.SAID
    assert "in a deployment each peer would have sent" in printed


def test_clients_evaluate_what_they_trained() -> None:
    _, records = train(InMemoryGrid(app, 5), 3, evaluate=1.0)
    assert [record.outcome for record in records] == ["complete"] * 3
    assert [record.loss for record in records] == [
        pytest.approx(np.average(range(5), weights=range(10, 15)))
    ] * 3


def test_what_drop_outs_did_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(run_folder.LOST, "0.2")
    monkeypatch.setenv(run_folder.FOLDER, str(tmp_path))
    _, records = train(InMemoryGrid(app, 10), 3, evaluate=1.0)
    assert [record.outcome for record in records] == ["complete"] * 3
    kept = run_folder.read(tmp_path)
    assert [RoundRecord.from_members(item["record"]) for item in kept] == records
    for item in kept:
        assert sum(item["costs"]["lost"].values()) == 2 * 2, "in the training and the evaluation"
    assert run_folder.progress(tmp_path) == (10, 10)
    assert "lost before" in capsys.readouterr().out


def test_many_peers_are_cut_into_groups_whose_sums_are_added(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(simulated, "HubProcess", partial(HubProcess, group_size=5))
    arrays, records = train(InMemoryGrid(app, 17), 2, evaluate=1.0)
    both = expected(range(17)) + expected(range(17), cap=32)  # the cap rises after the first
    np.testing.assert_allclose(arrays, both, rtol=1e-5)
    assert [len(record.groups) for record in records] == [3, 3]
    assert [record.survivors for record in records] == [17, 17]
    assert all(record.loss is not None for record in records)


def test_a_run_may_train_twice() -> None:
    grid = InMemoryGrid(app, 5)
    for _ in range(2):
        arrays, records = train(grid, 1)
        np.testing.assert_allclose(arrays, expected(range(5)), rtol=1e-6)
        assert [record.outcome for record in records] == ["complete"]


def test_plain_flower_runs_there_as_well() -> None:
    arrays, records = train(InMemoryGrid(app, 4), 1, mode="normal")
    plain = np.average([0.01, 0.02, 0.03, 0.04], weights=[10, 11, 12, 13])
    np.testing.assert_allclose(arrays, plain, rtol=1e-5)
    assert records[0].outcome == "complete"


def test_additive_works_there_as_well() -> None:
    arrays, _ = train(InMemoryGrid(app, 4), 1, mode="additive")
    np.testing.assert_allclose(arrays, expected(range(4)), rtol=1e-6)


def test_a_training_that_fails_adds_nothing_and_the_log_says_where(
    end: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    arrays, records = train(InMemoryGrid(failing, 6), 1)
    end()
    printed = capsys.readouterr().out
    np.testing.assert_allclose(arrays, expected([0, 2, 3, 4, 5]), rtol=1e-6)
    assert records[0].contributors == 5
    assert "warning: peer-00001 (partition 1): training failed" in printed, (
        "as smpcfl simulate shows it"
    )
    assert "no data here" in printed


def test_many_peers_do_not_get_their_messages_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulated, "_ON_THEIR_WAY", 3)
    pushed = []

    def push(grid: InMemoryGrid, messages: list[Message]) -> list[str]:
        pushed.append(len(messages))
        return original(grid, messages)

    original = InMemoryGrid.push_messages
    monkeypatch.setattr(InMemoryGrid, "push_messages", push)
    arrays, _ = train(InMemoryGrid(app, 8), 1)
    np.testing.assert_allclose(arrays, expected(range(8)), rtol=1e-6)
    assert max(pushed) == 3


def test_the_first_round_waits_for_all_virtual_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine makes its nodes while the ServerApp starts."""
    monkeypatch.setenv(run_folder.PEERS, "8")
    grid = InMemoryGrid(app, 8)
    looks = iter([grid.nodes[:3], grid.nodes[:5]])
    monkeypatch.setattr(InMemoryGrid, "get_node_ids", lambda grid: next(looks, grid.nodes))
    monkeypatch.setattr(simulated.time, "sleep", lambda seconds: None)
    _, records = train(grid, 1)
    assert records[0].cohort == 8


@pytest.mark.parametrize("text", ["a", "1", "-0.1", "1.5"])
def test_a_share_that_is_none_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(run_folder.LOST, text)
    with pytest.raises(LocalError, match=rf"SMPCFL_SIMULATED_LOST is '{text}'.*0\.1"):
        train(InMemoryGrid(app, 4), 1)


def test_a_line_that_is_not_whole_yet_is_no_record(tmp_path: Path) -> None:
    assert run_folder.read(tmp_path) == []
    assert run_folder.progress(tmp_path) is None
    whole = {"record": {"round": 1}, "costs": {}}
    (tmp_path / "records.jsonl").write_text(json.dumps(whole) + "\n" + '{"record"')
    assert run_folder.read(tmp_path) == [whole]
