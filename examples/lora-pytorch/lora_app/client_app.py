"""Trains the adapter on one peer's data."""

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from smpcfl.flower import secure_mod

from .task import Adapted, adapter_of, make_data, train

app = ClientApp(mods=[secure_mod])


@app.train()
def train_on_own(message: Message, context: Context) -> Message:
    partition = int(context.node_config["partition-id"])
    x, y = make_data(partition, 300 + 40 * partition)
    model = Adapted()
    model.load_state_dict(message.content["adapter"].to_torch_state_dict(), strict=False)
    loss = train(model, x, y)
    metrics = MetricRecord({"num-examples": len(y), "train_loss": loss})
    content = RecordDict({"adapter": ArrayRecord(adapter_of(model)), "metrics": metrics})
    return Message(content, reply_to=message)
