"""The client mod: trains as the app does, and replies with a masked partial sum in place of the model.

Whatever the app does, the reply has one form: a training that raised, diverged, gave other shapes or
outlasted its deadline is a masked zero, and why stays in this peer's log (docs/protocol.md, section 8).
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from threading import TIMEOUT_MAX
from typing import Any, cast

import numpy.typing as npt
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.clientapp.typing import ClientAppCallable
from flwr.common.serde import context_to_proto

from smpc.v1 import messages_pb2

from ...net import wire
from ...protocol.errors import LocalError, ProtocolError, Reason, RemoteError
from ...protocol.keystream import SEED_BYTES, Secret
from ...protocol.quantise import encode_failure, encode_update, model_digest
from ...protocol.release import release_ms
from ...protocol.ring import Raw, RingVector
from ...protocol.summed_metrics import Value
from ...protocol.ticket import NORMAL, TRAIN, Ticket
from ..shared.records import (
    ERROR_CODE,
    RECORD,
    VECTOR,
    arrays_of,
    config_of,
    content_digest,
    message_bytes,
    vector_record,
)
from .agent_client import AgentClient
from .app_view import shown
from .training_worker import bounded, in_worker

log = logging.getLogger("smpcfl.flower")
_OURS = {"ticket", "seed"}  # the keys of our record

Arrays = dict[str, npt.NDArray[Any]]
Work = tuple[RingVector, str, RecordDict]


def secure_mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Flower mod: `ClientApp(mods=[secure_mod])`. Without a valid ticket nothing is trained.

    The app's reply needs what plain Flower's needs: the model's arrays, unless it evaluates, and one
    MetricRecord with `num-examples` or what else the strategy weighs by. All numbers in it are summed.
    """
    try:
        with AgentClient.of(context) as agent:
            if agent.simulated:  # which has no metrics: to write a message out takes its time
                return _handle(agent, message, context, call_next)
            received = message_bytes(message)
            reply = _handle(agent, message, context, call_next)
            agent.report(bytes_in=received, bytes_out=message_bytes(reply))
            return reply
    except ProtocolError as error:
        return _error(message, str(error))


def _handle(
    agent: AgentClient, message: Message, context: Context, call_next: ClientAppCallable
) -> Message:
    ours = config_of(message.content)
    if ours is not None and "identify" not in ours:
        return _train(agent, ours, message, context, call_next)
    own = agent.identity(context.node_id)
    if ours is not None:
        # "start" is the agent's instance: what goes through Flower keeps its name.
        identity = ConfigRecord(
            {"start": own.instance, "certificate": own.certificate, "signature": own.signature}
        )
        return Message(RecordDict({RECORD: identity}), reply_to=message)
    if NORMAL not in own.modes:
        raise LocalError(
            f"this peer takes part in mode {'/'.join(own.modes)} only, and this"
            f" {message.metadata.message_type} message has no ticket: nothing leaves it in the"
            " clear (the ServerApp has to use SecureStrategy, or smpcfl.flower.secure)"
        )
    return call_next(message, context)


def _train(
    agent: AgentClient,
    ours: ConfigRecord,
    message: Message,
    context: Context,
    call_next: ClientAppCallable,
) -> Message:
    """Up to `begin` a refusal depends on the message and the peer's policy, and nothing has run."""
    raw = ours.get("ticket")
    if type(raw) is not bytes:  # of a number, bytes() would make as many zeros
        raise RemoteError(Reason.MALFORMED, "no ticket", expected="bytes", found=type(raw).__name__)
    proto = wire.parse(messages_pb2.SignedTicket, raw)
    try:
        wire.check_version(proto)
    except RemoteError:
        # So does the agent: it counts that, and its log is the one that the operator reads.
        agent.begin(proto, b"", b"", context.run_id)
        raise
    if unknown := set(ours) - _OURS:
        raise RemoteError(Reason.MALFORMED, "unknown fields beside the ticket", found=unknown)
    ticket = wire.ticket_from_proto(proto).ticket
    given = arrays_of(message.content)
    if ticket.layout_of(given) != ticket.layout:
        raise LocalError("the model has another number of entries than the ticket says")
    if message.metadata.message_type.partition(".")[0] != ticket.task:
        raise LocalError(
            f"a {message.metadata.message_type} message with a ticket to {ticket.task}"
        )
    content = content_digest(message.content, message.metadata.message_type, context.run_config)
    begun = agent.begin(proto, model_digest(given), content, context.run_id)
    if not begun.peer:  # the app would see one identity for all peers
        raise LocalError("this peer's agent is of an older version: start `smpcfl peer` again")
    if begun.frozen:
        return _upload_reply(message, *agent.frozen(ticket.digest), 0)
    began = time.monotonic()
    # Virtual peers share a few cores, and are asked one after another: the clock says nothing of them.
    latest_s = TIMEOUT_MAX if agent.simulated else ticket.deadlines.training_ms / 1000

    def work() -> Work:
        seen, own_context = shown(message, context, ticket, begun.peer, given)
        reply = call_next(seen, own_context)
        if reply.has_error():
            raise LocalError(reply.error.reason)
        rounding = _rounding(ours, ticket, context, begun.given_seed)
        # What Flower could not write after the upload would end the peer's next message with an error.
        context_to_proto(own_context)
        several = len(message.content.array_records) > 1
        return (*_addend(ticket, given, reply, rounding, several=several), own_context.state)

    done, failure = in_worker(work, latest_s)
    training_ms = int((time.monotonic() - began) * 1000)
    if done is None:
        addend, unreported = encode_failure(ticket.layout, len(ticket.cohort)), ""
    else:
        addend, unreported, context.state = done
    # Until then nobody is informed, not even the agent: its metrics are scraped.
    wait_s = 0.0
    if not agent.simulated:
        wait_s = min(release_ms(training_ms, begun.floor_ms) / 1000, latest_s)
        time.sleep(max(began + wait_s - time.monotonic(), 0.0))
    masks, meta = agent.masks(ticket.digest, round(wait_s * 1000), failure, unreported)
    vector = masks.apply(addend).raw
    p2p_bytes = agent.freeze(ticket.digest, vector)
    return _upload_reply(message, meta, vector, p2p_bytes)


def _upload_reply(message: Message, meta: bytes, vector: Raw, p2p_bytes: int) -> Message:
    content = RecordDict(
        {
            RECORD: ConfigRecord({"meta": meta, "p2p-bytes": p2p_bytes}),
            VECTOR: vector_record(vector),
        }
    )
    return Message(content, reply_to=message)


def _addend(
    ticket: Ticket,
    given: Arrays,
    reply: Message,
    rounding: Secret,
    *,
    several: bool = False,
) -> tuple[RingVector, str]:
    """What this peer adds to the sum, and why there are no metrics in it, if there are none.

    `several`: the model is in several ArrayRecords.
    """
    values, examples = _reported(reply, ticket.weighted_by)
    trained: Arrays = {}
    if ticket.task == TRAIN:
        trained = arrays_of(reply.content, several=several)
    unreported = ""
    if more := ticket.metrics.left_out(values):
        log.warning(
            "metrics %s stay on this peer: which ones are summed is fixed by the first round that has any, so"
            " report them from then on",
            more,
        )
    try:
        metrics = ticket.metrics.encode(values, examples, len(ticket.cohort))
    except LocalError as error:
        metrics, unreported = ticket.metrics.noise(os.urandom), bounded(str(error))
    addend = encode_update(
        ticket.quantiser,
        ticket.summed(given),
        trained,
        examples=examples,
        metrics=metrics,
        reports=not unreported,
        rounding=rounding,
    )
    return addend, unreported


def _reported(reply: Message, weighted_by: str) -> tuple[dict[str, Value], int]:
    """The metrics of the app's one MetricRecord, and its number of examples."""
    records = list(reply.content.metric_records.values())
    if len(records) != 1 or weighted_by not in records[0]:
        raise LocalError(f"the ClientApp's reply needs one MetricRecord with {weighted_by!r}")
    values = dict(records[0])
    examples = values.pop(weighted_by)
    if not isinstance(examples, int | float) or not examples >= 1:
        raise LocalError(f"{weighted_by} is {examples!r}: at least 1 is needed")
    return cast(dict[str, Value], values), int(examples)


def _rounding(ours: ConfigRecord, ticket: Ticket, context: Context, given_seed: bool) -> Secret:
    """The key of the rounding: this peer's own, or a given one where its operator allowed that."""
    if not given_seed or "seed" not in ours:
        return Secret(os.urandom(SEED_BYTES))
    partition = context.node_config.get("partition-id", context.node_id)
    text = f"{ours['seed']!r}/{ticket.round}/{partition!r}"
    return Secret(hashlib.sha256(text.encode()).digest())


def _error(message: Message, reason: str) -> Message:
    return Message(Error(ERROR_CODE, reason), reply_to=message)
