"""The grid that a strategy sends through: what it refuses, and whole runs through it beside plain ones."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

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
from flwr.serverapp.strategy import (
    DifferentialPrivacyClientSideFixedClipping,
    FedAvg,
    Result,
    Strategy,
)

import smpcfl.flower
from smpcfl.flower import SecureStrategy
from smpcfl.flower.server import strategy
from smpcfl.flower.server.secure_grid import SecureGrid
from smpcfl.flower.server.secure_options import Options
from smpcfl.flower.shared.records import to_numpy
from smpcfl.protocol.errors import LocalError
from smpcfl.protocol.ticket import ADDITIVE, NORMAL, SEEDED
from support.flower_peers import FlowerPeers, MakePeers
from support.network import peer_ids

FIVE = peer_ids(5)
CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-6}


@pytest.fixture
def five(make_peers: MakePeers) -> FlowerPeers:
    return uneven(make_peers(5))


def uneven(peers: FlowerPeers) -> FlowerPeers:
    """Examples, steps and metrics all differ."""
    for index, peer in enumerate(peers.nodes.values()):
        peers.steps[peer] = 0.1 * (index + 1)
        peers.examples[peer] = 10 + 7 * index
        peers.metrics[peer] = {"loss": 1.0 / (index + 1), "hits": [0.1 * index, 0.5]}
    return peers


def model(**more: Any) -> ArrayRecord:
    arrays = {"w": np.linspace(-1, 1, 4, dtype=np.float32), **more}
    return ArrayRecord({name: Array(array) for name, array in arrays.items()})


def secured(peers: FlowerPeers, mode: str = SEEDED, **options: Any) -> SecureGrid:
    return smpcfl.flower.secure(peers, mode=mode, width=32, **options)


def trained(
    grid: SecureGrid, strategy: Strategy | None = None, rounds: int = 2, **options: Any
) -> Result:
    initial = options.pop("initial", model())
    return (strategy or FedAvg()).start(grid, initial, num_rounds=rounds, **options)


def assert_same(found: Any, expected: Any) -> None:
    """Of a result: names, and values within rounding."""
    for where in ("train_metrics_clientapp", "evaluate_metrics_clientapp"):
        mine, theirs = getattr(found, where), getattr(expected, where)
        assert mine.keys() == theirs.keys(), where
        for number in mine:
            assert mine[number].keys() == theirs[number].keys(), where
            for key, value in mine[number].items():
                np.testing.assert_allclose(value, theirs[number][key], **CLOSE, err_msg=key)
    for name, array in to_numpy(found.arrays).items():
        np.testing.assert_allclose(array, to_numpy(expected.arrays)[name], **CLOSE, err_msg=name)


# -- as a plain run ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [SEEDED, ADDITIVE])
def test_a_strategy_runs_over_the_wrapped_grid_as_over_flowers(
    mode: str, five: FlowerPeers
) -> None:
    plain = trained(secured(five, NORMAL))
    grid = secured(five, mode)
    found = trained(grid)
    assert found.evaluate_metrics_clientapp.keys() == {1, 2}
    assert found.train_metrics_clientapp[1].keys() == {"loss", "hits"}
    assert_same(found, plain)
    assert [record.outcome for record in grid.records] == ["complete"] * 2


def test_arrays_of_any_kind_come_back_as_they_went_out(five: FlowerPeers) -> None:
    given: dict[str, Any] = {
        "batches": np.array(7, np.int64),  # as of BatchNorm: no dimension
        "flags": np.array([True, False]),
        "half": np.ones(3, np.float16),
        "none": np.zeros((0, 3), np.float32),
        "scale": np.array(2.0),
    }
    found = trained(secured(five), initial=model(**given), rounds=3)
    assert found.evaluate_metrics_clientapp.keys() == {1, 2, 3}, "peers evaluate what they train on"
    plain = trained(secured(five, NORMAL), initial=model(**given), rounds=3)
    np.testing.assert_allclose(
        to_numpy(found.arrays)["scale"], to_numpy(plain.arrays)["scale"], **CLOSE
    )
    for name, array in to_numpy(five.asked[len(FIVE) * 2 * 2].content["arrays"]).items():
        wanted = to_numpy(model(**given))[name]
        assert (array.dtype, array.shape) == (wanted.dtype, wanted.shape), name


def test_several_records_are_averaged_each_under_its_name(five: FlowerPeers) -> None:
    class Controlled(FedAvg):
        """As SCAFFOLD: beside the model goes a second record, which it averages too."""

        second = ArrayRecord({"w": Array(np.zeros(3))})

        def configure_train(self, *args: Any, **named: Any) -> Iterable[Message]:
            sent = list(super().configure_train(*args, **named))
            for message in sent:
                message.content["controls"] = self.second
            return sent

        def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Any:
            contents = list(replies)
            weights = [reply.content["metrics"]["num-examples"] for reply in contents]
            values = [reply.content["controls"]["w"].numpy() for reply in contents]
            self.second = ArrayRecord({"w": Array(np.average(values, axis=0, weights=weights))})
            for reply in contents:
                del reply.content["controls"]
            return super().aggregate_train(server_round, contents)

    ours, theirs = Controlled(fraction_evaluate=0.0), Controlled(fraction_evaluate=0.0)
    assert_same(trained(secured(five), ours), trained(secured(five, NORMAL), theirs))
    assert ours.second["w"].numpy()[0] > 0.5
    np.testing.assert_allclose(ours.second["w"].numpy(), theirs.second["w"].numpy(), **CLOSE)


# -- a start of one's own ---------------------------------------------------------------------------------


class Saving(FedAvg):
    """Writes down what came of the run."""

    def start(self, grid: Any, initial_arrays: ArrayRecord, *args: Any, **named: Any) -> Result:
        folder: Path = named.pop("folder")
        result = super().start(grid, initial_arrays, *args, **named)
        found = {number: dict(item) for number, item in result.evaluate_metrics_clientapp.items()}
        (folder / "metrics.json").write_text(json.dumps(found))
        np.savez(folder / "model.npz", **to_numpy(result.arrays))
        return result


def test_a_start_of_ones_own_runs_and_its_files_are_written(
    five: FlowerPeers, tmp_path: Path
) -> None:
    for mode in (NORMAL, SEEDED):
        (tmp_path / mode).mkdir()
        strategy = SecureStrategy(Saving(), mode=mode, width=32)
        strategy.start(five, model(), num_rounds=2, folder=tmp_path / mode)
    plain, secure = (
        json.loads((tmp_path / m / "metrics.json").read_text()) for m in (NORMAL, SEEDED)
    )
    assert secure.keys() == plain.keys() == {"1", "2"}
    for number in secure:
        assert secure[number].keys() == plain[number].keys() == {"loss", "hits"}
        assert secure[number]["loss"] == pytest.approx(plain[number]["loss"])
    models = [np.load(tmp_path / mode / "model.npz")["w"] for mode in (NORMAL, SEEDED)]
    np.testing.assert_allclose(*models, **CLOSE)


def test_a_strategy_may_be_around_ours_as_well(five: FlowerPeers) -> None:
    """It sends through Flower's grid, and gets sums from the first round on."""
    results = []
    for mode in (NORMAL, SEEDED):
        np.random.seed(1)  # its noise
        inner = SecureStrategy(FedAvg(), mode=mode, width=32)
        around = DifferentialPrivacyClientSideFixedClipping(inner, 0.1, 1.0, 5)
        results.append(around.start(five, model(), num_rounds=2))
        for name in ("send_and_receive", "push_messages", "pull_messages"):
            del vars(five)[name]  # the next run is another ServerApp's
        assert [record.outcome for record in inner.records] == ["complete"] * 2
    plain, secure = results
    assert secure.train_metrics_clientapp.keys() == {1, 2}
    assert secure.evaluate_metrics_clientapp.keys() == {1, 2}
    assert_same(secure, plain)
    assert len(five.rounds) == 4, "two trainings and two evaluations, each a secure round"


# -- evaluation ---------------------------------------------------------------------------------------


class Between(FedAvg):
    """Something happens after a round's training, and before its evaluation."""

    def __init__(self, script: Callable[[int], None]) -> None:
        super().__init__()
        self._script = script

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Any:
        self._script(server_round)
        return super().aggregate_train(server_round, replies)


def test_an_evaluation_over_one_peer_less_is_left_out_and_training_goes_on(
    make_peers: MakePeers, caplog: pytest.LogCaptureFixture
) -> None:
    six = uneven(make_peers(6))
    gone = peer_ids(6)[5]

    def lose(number: int) -> None:
        if number == 2:
            six.lost = {gone: "train"}

    grid = secured(six, min_peers=5, grace_s=0.0)
    caplog.set_level(logging.WARNING)
    found = trained(grid, Between(lose), rounds=4)
    assert [(record.outcome, record.cohort) for record in grid.records] == [
        ("complete", 6),
        ("complete", 6),
        ("complete", 5),
        ("complete", 5),
    ]
    assert found.train_metrics_clientapp.keys() == {1, 2, 3, 4}
    assert found.evaluate_metrics_clientapp.keys() == {1, 3, 4}
    assert "the evaluation is void" in caplog.text
    second = grid.records[1]
    assert (second.loss, second.accuracy) == (None, None), "absent, not zero"


def test_a_nan_of_one_peer_hides_everybodys_metrics_and_not_the_model(five: FlowerPeers) -> None:
    plain = trained(secured(five, NORMAL))
    five.metrics[FIVE[0]] = {"loss": float("nan"), "hits": [0.0, 0.5]}
    grid = secured(five)
    found = trained(grid)
    np.testing.assert_allclose(to_numpy(found.arrays)["w"], to_numpy(plain.arrays)["w"], **CLOSE)
    assert not any(found.train_metrics_clientapp.values())
    assert not any(found.evaluate_metrics_clientapp.values())
    assert [record.train_loss for record in grid.records] == [None, None]


# -- what is refused ----------------------------------------------------------------------------------------


def messages(kind: str = MessageType.TRAIN, **differs: Any) -> list[Message]:
    """One to each node; the first has other arrays, or another configuration."""
    found = []
    for node in range(1, 6):
        given = differs if node == 1 else {}
        content = {
            "arrays": given.get("arrays", model()),
            "config": ConfigRecord({"lr": given.get("lr", 0.1)}),
        }
        found.append(Message(RecordDict(content), node, kind))
    return found


@pytest.mark.parametrize("kind", [MessageType.TRAIN, MessageType.EVALUATE])
@pytest.mark.parametrize(
    "differs", [{"lr": 0.2}, {"arrays": model(w=np.zeros(4, np.float32))}], ids=["config", "model"]
)
def test_messages_that_differ_from_client_to_client_are_refused(
    kind: str, differs: dict[str, Any], five: FlowerPeers
) -> None:
    grid = secured(five)
    with pytest.raises(LocalError, match="messages differ from client to client"):
        grid.send_and_receive(messages(kind, **differs))
    assert not five.asked


def test_what_would_bring_single_replies_is_refused(five: FlowerPeers) -> None:
    grid = secured(five)
    with pytest.raises(LocalError, match=r"push_messages\(\) would bring single replies"):
        grid.push_messages(messages())
    with pytest.raises(LocalError, match="a query message would bring single replies"):
        grid.send_and_receive(messages(MessageType.QUERY))
    with pytest.raises(LocalError, match=r"different types in one round: \['evaluate', 'train'\]"):
        grid.send_and_receive([*messages(), *messages(MessageType.EVALUATE)])
    assert not five.asked


def test_in_normal_messages_may_differ_as_in_plain_flower(five: FlowerPeers) -> None:
    replies = list(secured(five, NORMAL).send_and_receive(messages(lr=0.2)))
    assert len(replies) == 5
    assert list(secured(five, NORMAL).push_messages(messages()))


def test_one_reply_stands_for_all(five: FlowerPeers) -> None:
    (reply,) = secured(five).send_and_receive(messages())
    weights = [five.examples[peer] for peer in FIVE]
    steps = np.average([five.steps[peer] for peer in FIVE], weights=weights)
    np.testing.assert_allclose(
        reply.content["arrays"]["w"].numpy(), model()["w"].numpy() + steps, **CLOSE
    )
    metrics = reply.content["metrics"]
    assert isinstance(metrics, MetricRecord)
    assert metrics["num-examples"] == sum(weights)
    assert "smpcfl" not in reply.content


def test_settings_are_the_deployments_unless_they_are_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SMPCFL_MODE", ADDITIVE)
    monkeypatch.setenv("SMPCFL_MIN_PEERS", "7")
    assert (Options().mode, Options().min_peers) == (ADDITIVE, 7)
    assert (Options(mode=SEEDED).mode, Options(min_peers=3).min_peers) == (SEEDED, 3)
    with pytest.raises(LocalError, match="min_peers is 2"):
        Options(min_peers=2)


def test_a_function_finds_the_metrics_under_the_name_that_the_app_gave_them(
    five: FlowerPeers,
) -> None:
    def mine(records: list[RecordDict], key: str) -> MetricRecord:
        found: Any = [record["train_metrics"] for record in records]
        weight = sum(record[key] for record in found)
        return MetricRecord(
            {"mean": sum(record[key] * record["loss"] for record in found) / weight}
        )

    found = trained(secured(five), FedAvg(train_metrics_aggr_fn=mine))
    expected = trained(secured(five))
    for number, metrics in expected.train_metrics_clientapp.items():
        assert found.train_metrics_clientapp[number] == {"mean": metrics["loss"]}


def test_the_last_round_of_a_loop_of_the_apps_own_is_recorded_when_it_ends(
    five: FlowerPeers, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_exit: list[Callable[[], None]] = []
    monkeypatch.setattr(strategy, "at_exit", at_exit.append)
    grid = secured(five)
    content = RecordDict({"arrays": model(), "config": ConfigRecord({"lr": 0.1})})
    nodes = list(grid.get_node_ids())
    messages = [Message(content, node, MessageType.TRAIN) for node in nodes]
    assert len(list(grid.send_and_receive(messages))) == 1
    assert not grid.records, "an evaluation may follow"
    for function in at_exit:
        function()
    assert [record.outcome for record in grid.records] == ["complete"]
