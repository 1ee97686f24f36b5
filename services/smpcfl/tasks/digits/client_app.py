"""The ClientApp of the bundled task: an ordinary one, plus the mod."""

from __future__ import annotations

from typing import cast

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from smpcfl.flower import secure_mod

from . import data, model

app = ClientApp(mods=[secure_mod])


@app.train()
def train(message: Message, context: Context) -> Message:
    """Trains on this peer's slice of the digits."""
    index = int(cast(int, context.node_config["partition-id"]))
    config = cast(ConfigRecord, message.content["config"])
    arrays = cast(ArrayRecord, message.content["arrays"])
    x, y = data.partition(index)
    state, loss, correct = model.train(
        {name: array.numpy() for name, array in arrays.items()},
        x,
        y,
        epochs=int(cast(int, config["local-epochs"])),
        lr=float(cast(float, config["learning-rate"])),
        seed=_seed(int(cast(int, config["seed"])), int(cast(int, config["server-round"])), index),
    )
    metrics = MetricRecord({"num-examples": len(y), "train_loss": loss, "correct": correct})
    trained = ArrayRecord({name: torch.from_numpy(array) for name, array in state.items()})
    return Message(RecordDict({"arrays": trained, "metrics": metrics}), reply_to=message)


def _seed(seed: int, round_: int, index: int) -> int:
    return (seed * 1_000_003 + round_ * 1_009 + index) % 2**31
