"""The message and context that the app gets: only what its round's ticket fixes, and the peer's own."""

from __future__ import annotations

import copy
import hashlib
import time
from typing import Any

import numpy.typing as npt
from flwr.app import Context, Message, Metadata, RecordDict

from ...protocol.ticket import Ticket
from ..shared.records import RECORD, with_arrays

_TTL_S = 24 * 3600.0


def shown(
    message: Message,
    context: Context,
    ticket: Ticket,
    peer: str,
    given: dict[str, npt.NDArray[Any]],
) -> tuple[Message, Context]:
    """Copies with everything replaced that the aggregator could choose for each peer alone.

    Numbers of nodes, runs and messages follow from peer and ticket, times from this peer's clock; the model
    is serialised anew from `given`. State and node config are copies: a training that is given up must not
    write into them later.
    """
    content = RecordDict(
        {
            name: record
            for name, record in with_arrays(message.content, given).items()
            if name != RECORD
        }
    )
    node = int.from_bytes(hashlib.sha256(peer.encode()).digest()[:7], "big")
    metadata = Metadata(
        run_id=ticket.run,
        message_id=ticket.digest.hex(),
        src_node_id=1,
        dst_node_id=node,
        reply_to_message_id="",
        group_id=str(ticket.round),
        created_at=time.time(),
        ttl=_TTL_S,
        message_type=message.metadata.message_type,
    )
    own = copy.copy(context)
    own.run_id, own.node_id, own.series_id = ticket.run, node, 0
    own.run_config = dict(sorted(context.run_config.items()))  # its order is in no digest
    own.state, own.node_config = copy.deepcopy(context.state), dict(context.node_config)
    return Message(content=content, metadata=metadata), own  # type: ignore[call-overload]
