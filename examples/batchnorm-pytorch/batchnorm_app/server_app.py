"""Averages the whole state of the network, and saves it."""

import torch
from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from smpcfl.flower import SecureStrategy

from .task import make_model

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    strategy = SecureStrategy(FedAvg())
    initial = ArrayRecord(make_model().state_dict())
    result = strategy.start(grid, initial, num_rounds=int(context.run_config["num-server-rounds"]))
    torch.save(result.arrays.to_torch_state_dict(), "model.pt")
