"""What leaves a SuperNode: the app's reply, without what Flower adds of how the app fared.

Flower reports to the SuperLink how long the app ran, which goes with this peer's number of examples, when it
replied, and, if it failed, with which exception, whose text may quote the data. Runs inside the SuperNode's
process (`smpcfl.daemons.entry`).
"""

from __future__ import annotations

import copy
import inspect
import logging
import time
from collections.abc import Callable
from typing import Any

from flwr.app import Error, Message
from flwr.app.message import make_message
from flwr.common.constant import ErrorCode
from flwr.common.serde import message_to_proto
from flwr.proto.fleet_pb2 import PushMessagesRequest, PushMessagesResponse
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.constant import HEAD_BODY_DIVIDER, HEAD_VALUE_DIVIDER
from flwr.supercore.inflatable.inflatable_object import get_object_id
from flwr.supernode import start_client_internal as supernode
from flwr.supernode.fleet_http_client import FleetHttpClient

from ..base.log_events import LogEvent, about
from ..protocol.errors import LocalError

log = logging.getLogger("smpcfl.outgoing")

MODS_CODE = 17  # of `secure_mod`, whose reasons depend on ticket and policy alone
# One for all: whether an app was not loaded, raised or crashed may depend on the data.
FAILED = Error(
    ErrorCode.CLIENT_APP_RAISED_EXCEPTION,
    "the app failed on this peer: the reason is in the peer's own log/supernode.log",
)


def seal(reply: Message, tree: ObjectTree, now: float) -> tuple[Message, ObjectTree, bytes]:
    """The reply as it leaves at `now`, in Unix seconds, with its tree and the object at the tree's root.

    An error is replaced by `FAILED`, unless it is a refusal: of `secure_mod`, or of this SuperNode's own. The
    reply counts as made now, and expires when it did.
    """
    metadata = copy.copy(reply.metadata)
    metadata.created_at = now
    metadata.ttl = round(reply.metadata.created_at + reply.metadata.ttl - now, 3)
    if reply.has_error():
        sealed = make_message(metadata, error=_shown(reply))
    else:
        sealed = make_message(metadata, reply.content)

    proto = message_to_proto(sealed)
    proto.ClearField("content")
    proto.metadata.message_id = ""
    body = proto.SerializeToString(deterministic=True)
    # As Message.deflate makes it, which would need the content itself.
    children = ",".join(child.object_id for child in tree.children)
    head = HEAD_VALUE_DIVIDER.join((Message.__qualname__, children, str(len(body))))
    root = head.encode() + HEAD_BODY_DIVIDER + body
    metadata.__dict__["_message_id"] = get_object_id(root)
    return sealed, ObjectTree(object_id=metadata.message_id, children=tree.children), root


def _shown(reply: Message) -> Error:
    if reply.error.code == MODS_CODE or reply.error == supernode.FAB_VERIFICATION_ERROR:
        return reply.error
    log.error(
        "run %d: the app failed: %s",
        reply.metadata.run_id,
        reply.error.reason,
        extra=about(LogEvent.TRAINING_FAILED),
    )
    return FAILED


def install() -> None:
    """LocalError if this Flower does not send replies as we know it."""
    push_messages = supernode._push_messages
    places = inspect.signature(push_messages).parameters.keys() >= {"send", "push_object"}
    fields = PushMessagesRequest.DESCRIPTOR.fields_by_name
    if not (
        places and "clientapp_runtime_list" in fields and hasattr(FleetHttpClient, "PushMessages")
    ):
        raise LocalError("this version of flwr sends replies in another way: see pyproject.toml")

    def push_sealed(*, send: Any, push_object: Any, **others: Any) -> None:
        roots: dict[str, tuple[str, bytes]] = {}  # by the id that this SuperNode knows it under

        def send_sealed(reply: Message, tree: ObjectTree, runtime: float) -> tuple[set[str], str]:
            sealed, sealed_tree, root = seal(reply, tree, time.time())
            roots[tree.object_id] = (sealed_tree.object_id, root)
            wanted, session = send(sealed, sealed_tree, runtime)
            own = {sealed_tree.object_id: tree.object_id}
            return {own.get(name, name) for name in wanted}, session

        def push(run_id: int, session: str, name: str, content: bytes) -> None:
            push_object(run_id, session, *roots.get(name, (name, content)))

        push_messages(send=send_sealed, push_object=push, **others)

    supernode._push_messages = push_sealed  # type: ignore[assignment]
    FleetHttpClient.PushMessages = _without_runtime(FleetHttpClient.PushMessages)  # type: ignore[assignment, method-assign]


_Push = Callable[[FleetHttpClient, PushMessagesRequest], PushMessagesResponse]


def _without_runtime(push: _Push) -> _Push:
    def push_without(client: FleetHttpClient, request: PushMessagesRequest) -> PushMessagesResponse:
        request.ClearField("clientapp_runtime_list")
        return push(client, request)

    return push_without
