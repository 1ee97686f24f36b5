"""Trains and evaluates on one peer's data."""

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from smpcfl.flower import secure_mod

from .task import make_data, make_model, test, train

app = ClientApp(mods=[secure_mod])


@app.train()
def train_on_own(message: Message, context: Context) -> Message:
    partition = int(context.node_config["partition-id"])
    x, y = make_data(partition, 320 + 64 * partition)
    model = make_model()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    loss = train(model, x, y)
    metrics = MetricRecord({"num-examples": len(y), "train_loss": loss})
    content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics})
    return Message(content, reply_to=message)


@app.evaluate()
def evaluate_on_own(message: Message, context: Context) -> Message:
    x, y = make_data(1000 + int(context.node_config["partition-id"]), 200)
    model = make_model()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    loss, accuracy = test(model, x, y)
    metrics = MetricRecord({"num-examples": len(y), "eval_loss": loss, "eval_acc": accuracy})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
