"""Trains and evaluates on one peer's data; clips its update where the server asks for that."""

from typing import Any

from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import fixedclipping_mod

from smpcfl.flower import secure_mod

from .task import make_data, measure, train


def clipping(message: Message, context: Context, call_next: Any) -> Message:
    """Flower's mod refuses what has no clipping norm; only some of the strategies send one."""
    if "clipping_norm" in message.content.get("config", {}):
        return fixedclipping_mod(message, context, call_next)
    return call_next(message, context)


app = ClientApp(mods=[secure_mod, clipping])


@app.train()
def train_on_own(message: Message, context: Context) -> Message:
    partition = int(context.node_config["partition-id"])
    x, y = make_data(partition, 40 + 20 * partition)
    config = message.content["config"]
    given = {name: array.numpy() for name, array in message.content["arrays"].items()}
    model = train(given, x, y, config["rate"], config.get("proximal-mu", 0.0))
    arrays = ArrayRecord({name: Array(array) for name, array in model.items()})
    metrics = MetricRecord({"num-examples": len(y), **measure(model, x, y)})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate_on_own(message: Message, context: Context) -> Message:
    partition = int(context.node_config["partition-id"])
    x, y = make_data(100 + partition, 20 + 5 * partition)
    model = {name: array.numpy() for name, array in message.content["arrays"].items()}
    metrics = MetricRecord({"num-examples": len(y), **measure(model, x, y)})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
