"""Trains on nothing, between two mods of the test's: one outside of `secure_mod`, one inside."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable

from smpcfl.flower import secure_mod
from smpcfl.flower.client.agent_client import AgentClient

from . import stage


@cache
def peer_id() -> str:
    with AgentClient() as agent:
        return str(agent.identity().peer)


def outside(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """After the upload is frozen in the agent, and before it leaves."""
    round_ = _round(message)
    reply = call_next(message, context)
    if round_ and not reply.has_error():
        stage.reach(f"{round_}-frozen-{peer_id()}", str(context.node_id))
    return reply


def inside(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """The ticket is known, the exchange goes on; keeps what training returned."""
    round_ = _round(message)
    stage.reach(f"{round_}-training-{peer_id()}")
    reply = call_next(message, context)
    arrays = reply.content.array_records["arrays"]
    stage.save(
        f"log/{round_}-{peer_id()}.npz",
        partition=int(context.node_config["partition-id"]),
        **{
            f"metric_{key}": value for key, value in reply.content.metric_records["metrics"].items()
        },
        **{f"model_{name}": array.numpy() for name, array in arrays.items()},
    )
    return reply


app = ClientApp(mods=[outside, secure_mod, inside])


@app.train()
def train(message: Message, context: Context) -> Message:
    """Noise of a size that grows and shrinks, so that clip and weight cap have something to follow."""
    round_, given = _round(message), message.content.array_records["arrays"]
    seed = hashlib.sha256(f"{peer_id()}/{round_}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(seed[:8], "big"))
    size = 10.0 ** rng.uniform(-4, 0)
    learnt: dict[str, Any] = {}
    for name, array in given.items():
        values = array.numpy()
        learnt[name] = Array((values + size * rng.normal(size=values.shape)).astype(values.dtype))
    examples = int(rng.integers(1, 2_000))
    metrics = MetricRecord(
        {
            "num-examples": examples,
            "loss": float(rng.uniform(0, 5)),
            "correct": int(rng.integers(0, examples + 1)),
        }
    )
    content = RecordDict({"arrays": ArrayRecord(learnt), "metrics": metrics})
    return Message(content, reply_to=message)


def _round(message: Message) -> int:
    """0 for a message that only asks who this is."""
    config = message.content.config_records.get("config")
    return int(config["server-round"]) if config is not None else 0  # type: ignore[call-overload]
