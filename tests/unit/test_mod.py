"""What leaves a peer through Flower when something goes wrong: nothing that tells of its data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Error,
    Message,
    MessageType,
    MetricRecord,
    RecordDict,
)
from flwr.supercore.task_identity import TaskIdentity

from smpcfl import wire
from smpcfl.flower import mod
from smpcfl.flower.records import RECORD, VECTOR, identity_of, upload_of
from smpcfl.protocol.errors import Reason, RemoteError
from support.enrolled import Deployment
from support.network import make_ticket

MODEL = {"w": np.zeros(10, np.float32)}


class Agent:
    """An agent that admits every ticket; it hears what stays on the peer."""

    heard: list[str] = []  # noqa: RUF012

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def identity(self, node: int = 0) -> Any:
        return type("Identity", (), {"peer": "a", "start": b"1", "modes": ("seeded",)})

    def begin(self, _: object) -> bool:
        return False

    def report(self, *, error: str = "", **_: float) -> None:
        self.heard += [error] if error else []


@pytest.fixture(autouse=True)
def flower_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower's messages carry the run that their process belongs to."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


@pytest.fixture
def message(monkeypatch: pytest.MonkeyPatch) -> Message:
    monkeypatch.setattr(mod, "AgentClient", Agent)
    monkeypatch.setattr(Agent, "heard", [])
    ticket = wire.ticket_to_proto(make_ticket(3, body=10)).SerializeToString()
    content = RecordDict(
        {
            RECORD: ConfigRecord({"ticket": ticket}),
            "arrays": ArrayRecord({name: Array(value) for name, value in MODEL.items()}),
        }
    )
    return Message(content, dst_node_id=1, message_type=MessageType.TRAIN)


def reply_with(message: Message, **metrics: float) -> Message:
    content = RecordDict(
        {
            "arrays": ArrayRecord({name: Array(value) for name, value in MODEL.items()}),
            "metrics": MetricRecord(metrics),
        }
    )
    return Message(content, reply_to=message)


def crash(message: Message, _: Context) -> Message:
    raise ValueError("12345 patients of ward 7")


APPS = {
    "crash": (crash, "12345 patients"),
    "own error": (lambda m, _: Message(Error(99, "ward 7"), reply_to=m), "ward 7"),
    "no examples": (lambda m, _: reply_with(m, **{"num-examples": 0}), "not 0"),
    "loss too large": (
        lambda m, _: reply_with(m, **{"num-examples": 500, "loss": 1e304}),
        "1e+304",
    ),
    "accuracy NaN": (
        lambda m, _: reply_with(m, **{"num-examples": 500, "accuracy": float("nan")}),
        "nan",
    ),
}


@pytest.mark.parametrize("name", APPS)
def test_why_training_failed_stays_on_the_peer(name: str, message: Message) -> None:
    app, detail = APPS[name]
    context = Context(1, 1, {}, RecordDict(), {})
    reply = mod.secure_mod(message, context, app)
    assert reply.has_error()
    assert reply.error.reason == "training failed on this peer: the reason is in its own log"
    (heard,) = Agent.heard
    assert detail in heard


# -- at the aggregator ------------------------------------------------------------------------------

GOOD = {"meta": b"m", "p2p-bytes": 7}
BYTES = Array(np.zeros(3, np.uint8))


def upload(fields: dict[str, Any], vector: Array | None = BYTES) -> Message:
    ask = Message(RecordDict(), dst_node_id=1, message_type=MessageType.TRAIN)
    content = RecordDict({RECORD: ConfigRecord(fields)})
    if vector is not None:
        content[VECTOR] = ArrayRecord({VECTOR: vector})
    return Message(content, reply_to=ask)


def test_an_upload_is_read() -> None:
    assert upload_of(upload(GOOD)) == (b"m", bytes(3), 7)


@pytest.mark.parametrize(
    ("fields", "vector"),
    [
        ({"meta": b"m"}, BYTES),
        ({**GOOD, "p2p-bytes": "7"}, BYTES),
        ({**GOOD, "p2p-bytes": float("nan")}, BYTES),
        ({**GOOD, "meta": "m"}, BYTES),
        ({**GOOD, "meta": 2**40}, BYTES),
        (GOOD, None),
        (GOOD, Array(np.zeros(3, np.float32))),
        (GOOD, Array("uint8", (3,), "numpy.ndarray", b"no array")),
    ],
)
def test_any_other_upload_is_refused_and_nothing_else_happens(
    fields: dict[str, Any], vector: Array | None
) -> None:
    with pytest.raises(RemoteError) as error:
        upload_of(upload(fields, vector))
    assert error.value.reason is Reason.MALFORMED


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"start": b"1"},
        {"start": 1, "certificate": b"1", "signature": b"1"},
        {"start": b"1", "certificate": 2**40, "signature": b"1"},
        {"start": b"1", "certificate": b"1", "signature": b"1"},
    ],
)
def test_a_node_that_is_no_peer_is_refused(fields: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(RemoteError) as error:
        identity_of(upload(fields), 1, Deployment(tmp_path).ca)
    assert error.value.reason in (Reason.MALFORMED, Reason.BAD_SIGNATURE)
