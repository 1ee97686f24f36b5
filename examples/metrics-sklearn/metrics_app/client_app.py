"""Trains and evaluates on one peer's data."""

from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from smpcfl.flower import secure_mod

from .task import arrays_of, load_part, make_model, measure, train

app = ClientApp(mods=[secure_mod])


def model_in(message: Message):
    return make_model({name: a.numpy() for name, a in message.content["arrays"].items()})


def part_of(context: Context, held_out: bool):
    node = context.node_config
    return load_part(int(node["partition-id"]), int(node["num-partitions"]), held_out)


@app.train()
def train_on_own(message: Message, context: Context) -> Message:
    model = model_in(message)
    x, y = part_of(context, held_out=False)
    train(model, x, y)
    arrays = ArrayRecord({name: Array(array) for name, array in arrays_of(model).items()})
    metrics = MetricRecord({"num-examples": len(y), **measure(model, x, y)})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate_on_own(message: Message, context: Context) -> Message:
    x, y = part_of(context, held_out=True)
    metrics = MetricRecord({"num-examples": len(y), **measure(model_in(message), x, y)})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
