"""Every strategy that docs/porting.md says works, in each way of the two lines; writes what came of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import (
    DifferentialPrivacyClientSideFixedClipping,
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedProx,
    FedYogi,
    Result,
    Strategy,
)

from smpcfl.flower import SecureStrategy, secure

from .task import make_data, make_model, measure

WIDTH = 32  # rounding so fine that what a strategy makes of it stays small
app = ServerApp()


class Keeping(FedAvg):
    """A user's own: it lets the rate fall, keeps each round's model, and writes down what it saw."""

    def start(self, *args: Any, **options: Any) -> Result:
        result = super().start(*args, **options)
        seen = {k: dict(v) for k, v in result.evaluate_metrics_clientapp.items()}
        Path("keeping-evaluated.json").write_text(json.dumps(seen))
        return result

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Any:
        config["rate"] = 0.1 / server_round
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(self, server_round: int, replies: Any) -> Any:
        arrays, metrics = super().aggregate_train(server_round, replies)
        np.savez(f"keeping-{server_round}.npz", **numpy_of(arrays))
        return arrays, metrics


def trained_only(kind: Callable[..., Strategy], **options: Any) -> Strategy:
    return kind(fraction_evaluate=0.0, **options)


def private(strategy: Strategy) -> Strategy:
    return DifferentialPrivacyClientSideFixedClipping(
        strategy, noise_multiplier=0.1, clipping_norm=0.5, num_sampled_clients=3
    )


def secured(strategy: Strategy) -> Strategy:
    return SecureStrategy(strategy, width=WIDTH)


def strategies() -> dict[str, tuple[Strategy, int]]:
    """By the name of its file, and its rounds: one will do for what remembers nothing."""
    return {
        "fedavg": (secured(FedAvg()), 1),
        "fedavg-wrapped-grid": (trained_only(FedAvg), 1),
        "fedprox": (secured(trained_only(FedProx, proximal_mu=0.5)), 1),
        "fedavgm": (secured(trained_only(FedAvgM, server_momentum=0.9)), 2),
        "fedadagrad": (secured(trained_only(FedAdagrad)), 2),
        "fedadam": (secured(trained_only(FedAdam)), 2),
        "fedyogi": (secured(trained_only(FedYogi)), 2),
        "private-inside": (secured(private(trained_only(FedAvg))), 1),
        # Its first round goes another way than those after it.
        "private-around": (private(secured(trained_only(FedAvg))), 2),
        "keeping": (secured(Keeping()), 2),
    }


def numpy_of(arrays: ArrayRecord) -> dict[str, Any]:
    return {name: array.numpy() for name, array in arrays.items()}


def evaluate(number: int, arrays: ArrayRecord) -> MetricRecord:
    return MetricRecord(measure(numpy_of(arrays), *make_data(1000, 50)))


def classes(strategy: Strategy) -> list[str]:
    """From the outermost to the innermost."""
    inner = getattr(strategy, "inner", None) or vars(strategy).get("strategy")
    return [type(strategy).__name__, *(classes(inner) if inner is not None else [])]


def write(name: str, strategy: Strategy, result: Result) -> None:
    np.savez(f"{name}.npz", **numpy_of(result.arrays))
    metrics = {
        "train": result.train_metrics_clientapp,
        "evaluate": result.evaluate_metrics_clientapp,
        "server": result.evaluate_metrics_serverapp,
    }
    found = {kind: {k: dict(v) for k, v in items.items()} for kind, items in metrics.items()}
    Path(f"{name}.json").write_text(json.dumps({"classes": classes(strategy), **found}, indent=1))


@app.main()
def main(grid: Grid, context: Context) -> None:
    for seed, (name, (strategy, rounds)) in enumerate(strategies().items()):
        np.random.seed(1)  # the noise of differential privacy comes from there
        initial = ArrayRecord({key: Array(value) for key, value in make_model(seed).items()})
        result = strategy.start(
            grid=secure(grid, width=WIDTH) if name == "fedavg-wrapped-grid" else grid,
            initial_arrays=initial,
            num_rounds=rounds,
            train_config=ConfigRecord({"rate": 0.1}),
            evaluate_fn=evaluate,
        )
        write(name, strategy, result)
