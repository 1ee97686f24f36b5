"""Averages the adapter, evaluates it on data of the server's, and saves it."""

import torch
from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from smpcfl.flower import SecureStrategy

from .task import Adapted, adapter_of, make_data, test

app = ServerApp()


def evaluate(number: int, arrays: ArrayRecord) -> MetricRecord:
    model = Adapted()
    model.load_state_dict(arrays.to_torch_state_dict(), strict=False)
    loss, accuracy = test(model, *make_data(1000, 1000))
    return MetricRecord({"accuracy": accuracy, "loss": loss})


@app.main()
def main(grid: Grid, context: Context) -> None:
    strategy = SecureStrategy(FedAvg(fraction_evaluate=0.0, arrayrecord_key="adapter"))
    result = strategy.start(
        grid,
        ArrayRecord(adapter_of(Adapted())),
        num_rounds=int(context.run_config["num-server-rounds"]),
        evaluate_fn=evaluate,
    )
    torch.save(result.arrays.to_torch_state_dict(), "adapter.pt")
