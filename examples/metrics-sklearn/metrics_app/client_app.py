"""Trains and evaluates on one peer's data."""

from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from smpcfl.flower import secure_mod

from .task import make_data, measure, train

app = ClientApp(mods=[secure_mod])


@app.train()
def train_on_own(message: Message, context: Context) -> Message:
    partition = int(context.node_config["partition-id"])
    x, y = make_data(partition, 300 + 50 * partition, mixture=partition)
    given = {name: array.numpy() for name, array in message.content["arrays"].items()}
    model = train(given, x, y)
    arrays = ArrayRecord({name: Array(array) for name, array in model.items()})
    metrics = MetricRecord({"num-examples": len(y), **measure(model, x, y)})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate_on_own(message: Message, context: Context) -> Message:
    partition = int(context.node_config["partition-id"])
    x, y = make_data(1000 + partition, 150 + 10 * partition, mixture=partition)
    model = {name: array.numpy() for name, array in message.content["arrays"].items()}
    metrics = MetricRecord({"num-examples": len(y), **measure(model, x, y)})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
