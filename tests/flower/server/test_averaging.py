"""Which strategies work over means alone: the table of docs/porting.md, and whole runs beside plain ones."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flwr.serverapp.strategy as flowers
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from flwr.serverapp.strategy import (
    DifferentialPrivacyClientSideAdaptiveClipping,
    DifferentialPrivacyClientSideFixedClipping,
    DifferentialPrivacyServerSideAdaptiveClipping,
    DifferentialPrivacyServerSideFixedClipping,
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedMedian,
    FedProx,
    FedYogi,
    MultiKrum,
    QFedAvg,
    Result,
    Strategy,
)

from smpcfl.flower import SecureStrategy
from smpcfl.flower.server.averaging import check_averages, weighted_by
from smpcfl.flower.shared.records import to_numpy
from smpcfl.protocol.errors import LocalError
from smpcfl.protocol.ticket import NORMAL, SEEDED
from support.flower_peers import FlowerPeers, MakePeers
from support.network import peer_ids

PAGE = Path(__file__).resolve().parents[3] / "docs" / "porting.md"
ROW = re.compile(r"^\| `(\w+)` \| (works|refused) \|", re.M)
FIVE = peer_ids(5)
CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-6}  # what rounding leaves, in a ring of 32 bits


def private(kind: Any, **options: Any) -> Callable[[], Strategy]:
    given = {"noise_multiplier": 0.1, "num_sampled_clients": 5, **options}
    return lambda: kind(FedAvg(), **given)


# Those that cannot be made without arguments, or do nothing of their own then.
MADE: dict[str, Callable[[], Strategy]] = {
    "FedProx": lambda: FedProx(proximal_mu=0.1),
    "FedAvgM": lambda: FedAvgM(server_learning_rate=0.5, server_momentum=0.9),
    "QFedAvg": lambda: QFedAvg(client_learning_rate=0.1),
    "DifferentialPrivacyClientSideFixedClipping": private(
        DifferentialPrivacyClientSideFixedClipping, clipping_norm=1.0
    ),
    "DifferentialPrivacyServerSideFixedClipping": private(
        DifferentialPrivacyServerSideFixedClipping, clipping_norm=1.0
    ),
    "DifferentialPrivacyClientSideAdaptiveClipping": private(
        DifferentialPrivacyClientSideAdaptiveClipping
    ),
    "DifferentialPrivacyServerSideAdaptiveClipping": private(
        DifferentialPrivacyServerSideAdaptiveClipping
    ),
}


def made(name: str) -> Strategy:
    found: Strategy = MADE.get(name, getattr(flowers, name))()
    return found


def table() -> dict[str, str]:
    """From the page: whether a strategy works or is refused, by name."""
    return dict(ROW.findall(PAGE.read_text(encoding="utf-8")))


def working() -> list[str]:
    return [name for name, verdict in table().items() if verdict == "works"]


@pytest.fixture
def five(make_peers: MakePeers) -> FlowerPeers:
    """Whose examples, steps and metrics all differ."""
    peers = make_peers(5)
    for index, peer in enumerate(FIVE):
        peers.steps[peer] = 0.1 * (index + 1)
        peers.examples[peer] = 10 + 7 * index
        peers.metrics[peer] = {"train_loss": 1.0 / (index + 1), "hits": [0.1 * index, 0.5]}
    return peers


# -- the table ------------------------------------------------------------------------------------------


def test_every_strategy_of_flowers_is_in_the_table() -> None:
    kinds = {
        name: kind for name in flowers.__all__ if isinstance(kind := getattr(flowers, name), type)
    }
    own = {
        name for name, kind in kinds.items() if issubclass(kind, Strategy) and kind is not Strategy
    }
    assert own == set(table())


@pytest.mark.parametrize("name", sorted(table()))
@pytest.mark.usefixtures("make_peers")  # in a ServerApp's process
def test_the_table_says_what_the_code_does(name: str) -> None:
    strategy = made(name)
    if table()[name] == "works":
        check_averages(strategy)
    else:
        with pytest.raises(
            LocalError, match=f"{name} (looks at single updates|does not take means)"
        ):
            check_averages(strategy)


@pytest.mark.parametrize("name", working())
def test_a_strategy_that_works_ends_as_its_plain_run(name: str, five: FlowerPeers) -> None:
    plain, secure = (trained(five, made(name), mode) for mode in (NORMAL, SEEDED))
    assert secure.train_metrics_clientapp.keys() == {1, 2, 3}
    assert_same(secure, plain)


def trained(peers: FlowerPeers, strategy: Strategy, mode: str, rounds: int = 3) -> Result:
    np.random.seed(1)  # the noise of differential privacy
    initial = {"w": Array(np.linspace(-1, 1, 4, dtype=np.float32)), "b": Array(np.zeros((2, 2)))}

    def evaluate(number: int, arrays: ArrayRecord) -> MetricRecord:
        return MetricRecord({"accuracy": float(np.mean(arrays["w"].numpy()))})

    return SecureStrategy(strategy, mode=mode, width=32).start(
        peers,
        ArrayRecord(initial),
        num_rounds=rounds,
        train_config=ConfigRecord({"lr": 0.1}),
        evaluate_fn=evaluate,
    )


def assert_same(found: Result, expected: Result) -> None:
    """Models, and names and values of all metrics."""
    arrays, wanted = to_numpy(found.arrays), to_numpy(expected.arrays)
    assert arrays.keys() == wanted.keys()
    for name in arrays:
        np.testing.assert_allclose(arrays[name], wanted[name], **CLOSE)
    for where in (
        "train_metrics_clientapp",
        "evaluate_metrics_clientapp",
        "evaluate_metrics_serverapp",
    ):
        mine, theirs = getattr(found, where), getattr(expected, where)
        assert mine.keys() == theirs.keys(), where
        for number, record in mine.items():
            assert record.keys() == theirs[number].keys(), where
            for key, value in record.items():
                np.testing.assert_allclose(value, theirs[number][key], **CLOSE, err_msg=key)


@pytest.mark.parametrize("kind", [FedAdam, FedAdagrad, FedYogi])
def test_what_goes_out_has_the_dtypes_that_came_in(kind: Any, five: FlowerPeers) -> None:
    trained(five, kind(), SEEDED)
    dtypes = [
        {name: str(array.dtype) for name, array in to_numpy(message.content["arrays"]).items()}
        for message in five.asked
    ]
    assert dtypes == [{"w": "float32", "b": "float64"}] * 3 * 2 * len(FIVE)


# -- by what it does, not by its name -----------------------------------------------------------------------


class Renamed(FedMedian):
    """Inherits what looks at single updates."""


class Plotting(FedAvg):
    """Its own code around Flower's is not run by the trial, and may do what it likes."""

    def aggregate_train(self, server_round: int, replies: Any) -> Any:
        raise AssertionError("run before anything is trained")


@pytest.mark.usefixtures("make_peers")
def test_a_subclass_is_judged_by_what_it_inherits_from_flower() -> None:
    with pytest.raises(LocalError, match="Renamed looks at single updates"):
        check_averages(Renamed())
    check_averages(Plotting())


@pytest.mark.usefixtures("make_peers")
def test_the_strategy_inside_a_wrapper_is_tried_too() -> None:
    inside = DifferentialPrivacyClientSideFixedClipping(FedMedian(), 0.1, 1.0, 5)
    with pytest.raises(LocalError, match="FedMedian looks at single updates"):
        check_averages(inside)


@pytest.mark.usefixtures("make_peers")
def test_a_selection_of_more_updates_than_a_small_trial_has_is_refused() -> None:
    with pytest.raises(LocalError, match="MultiKrum looks at single updates"):
        check_averages(MultiKrum(num_nodes_to_select=10))


@pytest.mark.usefixtures("make_peers")
def test_the_trial_leaves_no_trace() -> None:
    strategy = FedAdam()
    np.random.seed(5)
    before = dict(vars(strategy)), np.random.get_state()[1]
    check_averages(strategy)
    assert vars(strategy) == before[0]
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])


# -- functions over metrics -----------------------------------------------------------------------------


def weighted(contents: list[RecordDict], key: str) -> MetricRecord:
    """As in Flower's examples."""
    records = [content["metrics"] for content in contents]
    total = sum(record[key] for record in records)
    return MetricRecord({"loss": sum(r["loss"] * r[key] for r in records) / total})


def unweighted(contents: list[RecordDict], key: str) -> MetricRecord:
    return MetricRecord(
        {"loss": float(np.mean([content["metrics"]["loss"] for content in contents]))}
    )


def worst(contents: list[RecordDict], key: str) -> MetricRecord:
    return MetricRecord({"loss": max(content["metrics"]["loss"] for content in contents)})


@pytest.mark.parametrize("name", ["train_metrics_aggr_fn", "evaluate_metrics_aggr_fn"])
@pytest.mark.usefixtures("make_peers")
def test_a_function_of_metrics_has_to_be_a_weighted_mean(name: str) -> None:
    check_averages(FedAvg(**{name: weighted}))
    for function in (unweighted, worst):
        with pytest.raises(
            LocalError, match=f"{name}={function.__name__} looks at the metrics of single"
        ):
            check_averages(FedAvg(**{name: function}))


def test_a_function_of_metrics_sees_the_means(five: FlowerPeers) -> None:
    for peer in FIVE:
        five.metrics[peer] = {"loss": five.steps[peer]}
    options: dict[str, Any] = {
        "train_metrics_aggr_fn": weighted,
        "evaluate_metrics_aggr_fn": weighted,
    }
    plain, secure = (trained(five, FedAvg(**options), mode) for mode in (NORMAL, SEEDED))
    assert_same(secure, plain)


def test_the_innermost_strategy_says_what_weighs() -> None:
    inner = FedAvg(weighted_by_key="images")
    assert weighted_by(DifferentialPrivacyClientSideFixedClipping(inner, 0.1, 1.0, 5)) == "images"
    assert weighted_by(FedAvg()) == "num-examples"


@pytest.mark.usefixtures("make_peers")
def test_a_function_that_knows_the_apps_own_records_keeps_no_strategy_from_being_tried() -> None:
    def mine(records: list[RecordDict], key: str) -> MetricRecord:
        return MetricRecord({"loss": float(records[0]["train_metrics"]["loss"])})  # type: ignore[index]

    check_averages(FedAdam(train_metrics_aggr_fn=mine))
    with pytest.raises(LocalError, match="FedMedian looks at single updates"):
        check_averages(FedMedian(train_metrics_aggr_fn=mine))
