"""The ServerApp of the bundled task: FedAvg, wrapped."""

from __future__ import annotations

import logging
import time

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from smpcfl.flower import SecureStrategy

from . import data, model

app = ServerApp()
log = logging.getLogger("smpcfl.tasks.digits")
_WAIT_S = 60.0


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Trains for `num-rounds` and evaluates the global model on the held-out digits."""
    config = context.run_config
    seed, min_peers = int(config["seed"]), int(config["min-peers"])
    strategy = SecureStrategy(
        FedAvg(fraction_evaluate=0.0, min_train_nodes=min_peers, min_available_nodes=min_peers),
        min_peers=min_peers,
        seed=seed,
    )
    x, y = data.held_out()

    def evaluate(_: int, arrays: ArrayRecord) -> MetricRecord:
        state = {name: array.numpy() for name, array in arrays.items()}
        accuracy, loss = model.evaluate(state, x, y)
        return MetricRecord({"accuracy": accuracy, "loss": loss})

    _wait_for(grid, int(config["expected-peers"]))
    initial = ArrayRecord({name: Array(array) for name, array in model.initial(seed).items()})
    train_config = ConfigRecord({key: config[key] for key in ("local-epochs", "learning-rate")})
    train_config["seed"] = seed
    strategy.start(
        grid,
        initial,
        num_rounds=int(config["num-rounds"]),
        train_config=train_config,
        evaluate_fn=evaluate,
    )


def _wait_for(grid: Grid, expected: int) -> None:
    """Nodes connect one by one; the first round should have them all."""
    latest = time.monotonic() + _WAIT_S
    while len(list(grid.get_node_ids())) < expected and time.monotonic() < latest:
        time.sleep(0.5)
