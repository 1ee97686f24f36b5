"""The client mod: trains as the app does, and replies with a masked partial sum in place of the model.

Whatever the app does, the reply has one form: a training that raised, diverged, gave other shapes or
outlasted its deadline is a masked zero, and why stays in this peer's log (docs/protocol.md, section 8).
"""

from __future__ import annotations

import hashlib
import time
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp.typing import ClientAppCallable

from smpc.v1 import messages_pb2

from ...net import wire
from ...protocol.errors import LocalError, ProtocolError, Reason, RemoteError
from ...protocol.quantise import ModelShape, encode_failure, encode_update, model_digest
from ...protocol.release import release_ms
from ...protocol.ring import RingVector
from ...protocol.ticket import NORMAL, Ticket
from ..shared.records import (
    RECORD,
    VECTOR,
    config_of,
    content_digest,
    message_bytes,
    split_arrays,
    to_numpy,
    vector_record,
)
from .agent_client import AgentClient
from .app_view import shown
from .training_worker import in_worker

ERROR_CODE = 17  # ours: Flower's own codes are below 10
LOSS_KEYS = ("train_loss", "train-loss", "loss")
CORRECT_KEYS = ("correct", "num-correct")
ACCURACY_KEYS = ("train_acc", "train-accuracy", "accuracy")
_OURS = {"ticket", "seed"}  # the keys of our record

Arrays = dict[str, npt.NDArray[Any]]


def secure_mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Flower mod: `ClientApp(mods=[secure_mod])`. Without a valid ticket nothing is trained.

    The app's reply needs one ArrayRecord, and one MetricRecord with `num-examples`; a loss
    (`train_loss` or `loss`) and `correct` or an accuracy are summed with it if they are there.
    """
    try:
        received = message_bytes(message)
        with AgentClient() as agent:
            reply = _handle(agent, message, context, call_next)
            agent.report(bytes_in=received, bytes_out=message_bytes(reply))
            return reply
    except ProtocolError as error:
        return _error(message, str(error))


def _handle(
    agent: AgentClient, message: Message, context: Context, call_next: ClientAppCallable
) -> Message:
    ours = config_of(message.content)
    own = agent.identity(context.node_id)
    if ours is not None and "identify" in ours:
        identity = ConfigRecord(
            {"start": own.start, "certificate": own.certificate, "signature": own.signature}
        )
        return Message(RecordDict({RECORD: identity}), reply_to=message)
    if ours is None:
        if NORMAL not in own.modes:
            raise LocalError(
                f"this peer takes part in mode {'/'.join(own.modes)} only, and this"
                f" {message.metadata.message_type} message has no ticket: nothing leaves it in the"
                " clear (use SecureStrategy; for evaluation, set fraction_evaluate=0)"
            )
        return call_next(message, context)
    return _train(agent, own.peer, ours, message, context, call_next)


def _train(
    agent: AgentClient,
    peer: str,
    ours: ConfigRecord,
    message: Message,
    context: Context,
    call_next: ClientAppCallable,
) -> Message:
    """Up to `begin` a refusal depends on the message and the peer's policy, and nothing has run."""
    if unknown := set(ours) - _OURS:
        raise RemoteError(Reason.MALFORMED, "unknown fields beside the ticket", found=unknown)
    proto = wire.parse(messages_pb2.SignedTicket, bytes(ours["ticket"]))  # type: ignore[arg-type]
    ticket = wire.ticket_from_proto(proto).ticket
    name, record = split_arrays(message.content)
    given = to_numpy(record)
    if ModelShape.of(given).layout(ticket.width) != ticket.layout:
        raise LocalError("the model has another number of entries than the ticket says")
    content = content_digest(message.content, message.metadata.message_type, context.run_config)
    begun = agent.begin(proto, model_digest(given), content, context.run_id)
    if begun.frozen:
        return _upload_reply(message, *agent.frozen(ticket.digest), 0)
    began = time.monotonic()
    latest_s = ticket.deadlines.training_ms / 1000

    def work() -> tuple[RingVector, RecordDict]:
        if not begun.train:
            raise LocalError("this ticket's training was started before, and did not end")
        seen, own_context = shown(message, context, ticket, peer, name, given)
        reply = call_next(seen, own_context)
        if reply.has_error():
            raise LocalError(reply.error.reason)
        trained = to_numpy(split_arrays(reply.content)[1])
        rng = _rounding(ours, ticket, context, begun.given_seed)
        addend = encode_update(ticket.quantiser, given, trained, **_counters(reply), rng=rng)
        return addend, own_context.state

    done, failure = in_worker(work, latest_s)
    training_ms = int((time.monotonic() - began) * 1000)
    if done is None:
        addend = encode_failure(ticket.layout, len(ticket.cohort))
    else:
        addend, context.state = done
    # Until then nobody is informed, not even the agent: its metrics are scraped.
    wait_s = min(release_ms(training_ms, begun.floor_ms) / 1000, latest_s)
    time.sleep(max(began + wait_s - time.monotonic(), 0.0))
    masks, meta = agent.masks(ticket.digest, round(wait_s * 1000), failure)
    start = time.perf_counter()
    vector = masks.apply(addend).tobytes()
    p2p_bytes = agent.freeze(ticket.digest, vector)
    agent.report(upload_seconds=time.perf_counter() - start)
    return _upload_reply(message, meta, vector, p2p_bytes)


def _upload_reply(message: Message, meta: bytes, vector: bytes, p2p_bytes: int) -> Message:
    content = RecordDict(
        {
            RECORD: ConfigRecord({"meta": meta, "p2p-bytes": p2p_bytes}),
            VECTOR: vector_record(vector),
        }
    )
    return Message(content, reply_to=message)


def _counters(reply: Message) -> dict[str, Any]:
    """Examples, loss and correct predictions from the app's one MetricRecord."""
    records = list(reply.content.metric_records.values())
    if len(records) != 1 or "num-examples" not in records[0]:
        raise LocalError("the ClientApp's reply needs one MetricRecord with 'num-examples'")
    metrics = records[0]
    examples = int(_number(metrics, ("num-examples",)))
    correct = _number(metrics, CORRECT_KEYS)
    if not correct:
        correct = _number(metrics, ACCURACY_KEYS) * examples
    if not np.isfinite(correct):
        raise LocalError(f"the accuracy is {correct}")
    return {
        "examples": examples,
        "loss": float(_number(metrics, LOSS_KEYS)),
        "correct": min(max(round(correct), 0), examples),
    }


def _number(metrics: MetricRecord, keys: tuple[str, ...]) -> float:
    value = next((metrics[key] for key in keys if key in metrics), 0.0)
    return float(value) if isinstance(value, int | float) else 0.0


def _rounding(
    ours: ConfigRecord, ticket: Ticket, context: Context, given_seed: bool
) -> np.random.Generator:
    """The rounding's randomness: this peer's own, or a given one where its operator allowed that."""
    if not given_seed or "seed" not in ours:
        return np.random.default_rng()
    partition = context.node_config.get("partition-id", context.node_id)
    text = f"{ours['seed']!r}/{ticket.round}/{partition!r}"
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest(), "big"))


def _error(message: Message, reason: str) -> Message:
    return Message(Error(ERROR_CODE, reason), reply_to=message)
