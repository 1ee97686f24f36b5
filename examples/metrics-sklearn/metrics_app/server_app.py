"""A strategy that saves the best model, and all metrics of the run."""

import json
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg, Result

from smpcfl.flower import SecureStrategy

from .task import arrays_of, make_model

app = ServerApp()


class SavingFedAvg(FedAvg):
    """Keeps the model that the clients found best, and writes it down when the run is over."""

    def start(self, *args: Any, **options: Any) -> Result:
        self.best = (0.0, {})
        self.trained = ArrayRecord()
        result = super().start(*args, **options)
        np.savez("best.npz", **self.best[1])
        history = {
            "train": {k: dict(v) for k, v in result.train_metrics_clientapp.items()},
            "evaluate": {k: dict(v) for k, v in result.evaluate_metrics_clientapp.items()},
        }
        with open("history.json", "w") as file:
            json.dump(history, file, indent=1)
        return result

    def aggregate_train(self, *args: Any) -> tuple[ArrayRecord | None, MetricRecord | None]:
        arrays, metrics = super().aggregate_train(*args)
        self.trained = arrays or self.trained
        return arrays, metrics

    def aggregate_evaluate(self, *args: Any) -> MetricRecord | None:
        metrics = super().aggregate_evaluate(*args)
        if metrics is not None and metrics["accuracy"] > self.best[0]:
            model = {name: array.numpy() for name, array in self.trained.items()}
            self.best = (metrics["accuracy"], model)
        return metrics


@app.main()
def main(grid: Grid, context: Context) -> None:
    strategy = SecureStrategy(SavingFedAvg())
    initial = ArrayRecord({name: Array(array) for name, array in arrays_of(make_model()).items()})
    strategy.start(grid, initial, num_rounds=int(context.run_config["num-server-rounds"]))
