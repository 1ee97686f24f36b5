"""One round of mode `normal`: plain Flower, every update arrives as it is."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from typing import Any

from flwr.app import Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from flwr.serverapp.strategy.strategy_utils import aggregate_metricrecords

from ...base.log_events import LogEvent, about
from ...protocol.errors import Reason, clean
from ...protocol.ticket import TRAIN
from ...reports.pictures import UPDATE
from ..shared.records import ERROR_CODE, arrays_of, message_bytes
from .secure_options import Options
from .secure_round import Outcome
from .service_link import Server

log = logging.getLogger("smpcfl.flower")
# Others mean that a node is away.
_OF_THE_APP = (
    ErrorCode.LOAD_CLIENT_APP_EXCEPTION,
    ErrorCode.CLIENT_APP_RAISED_EXCEPTION,
    ERROR_CODE,
)


class PlainRound:
    """`names`: of the peers, by node, as far as they said so."""

    def __init__(
        self, grid: Grid, server: Server, settings: Options, names: Mapping[int, str]
    ) -> None:
        self._grid = grid
        self._server = server
        self._settings = settings
        self._names = names

    def run(self, number: int, messages: list[Message], timeout: float | None) -> Outcome:
        """What came; `number`: of the round."""
        began, kind = time.monotonic(), messages[0].metadata.message_type.partition(".")[0]
        self._server.begins(number, kind, sorted(self._names.values()))
        replies: dict[int, Message] = {}

        def take(node: int, reply: Message) -> None:
            replies[node] = reply
            self._server.replied(len(replies), len(messages))

        latest = timeout or math.inf
        self._server.ask(self._grid, messages, latest, take, self._settings.grace_s)
        up = sum(message_bytes(reply) for reply in replies.values())
        good = [reply for reply in replies.values() if not reply.has_error()]
        errors = [reply.error for reply in replies.values() if reply.has_error()]
        if kind == TRAIN:
            self._show_update(number, messages[0].content, replies)
        for error in errors:
            log.warning("a peer failed: %s", error.reason, extra=about(LogEvent.TRAINING_FAILED))
        failed = [error.code in _OF_THE_APP for error in errors] == [True] * len(messages)
        why = (
            f"{Reason.TOO_FEW_CONTRIBUTORS}: all {len(errors)} peers failed, one of them:"
            f" {errors[0].reason}"
            if failed
            else "no peer replied"
        )
        return Outcome(
            replies=good,
            metrics=_mean([reply.content for reply in good], self._settings.weighted_by),
            reason="" if good else why,
            training_failed=failed,
            cohort=len(messages),
            survivors=len(good),
            lost=self._lost(messages, replies),
            contributors=len(good),
            bytes_up=up,
            bytes_down=sum(message_bytes(message) for message in messages),
            plain_bytes=up / max(len(replies), 1),
            phase_seconds={kind: time.monotonic() - began},
        )

    def _lost(self, messages: list[Message], replies: Mapping[int, Message]) -> dict[str, str]:
        """Who gave no update, each with why."""
        found = {}
        for node in (message.metadata.dst_node_id for message in messages):
            name = self._names.get(node, f"node {node}")
            if node not in replies:
                found[name] = "no reply"
            elif replies[node].has_error():
                found[name] = f"failed: {clean(str(replies[node].error.reason))}"
        return found

    def _show_update(self, number: int, given: RecordDict, replies: Mapping[int, Message]) -> None:
        """For the report: of the first peer by name, as it came."""
        seen = self._server.seen
        if seen is None or not seen.wants(UPDATE):
            return
        for node in sorted(replies, key=lambda node: (self._names.get(node, "~"), node)):
            content = None if replies[node].has_error() else replies[node].content
            if content is not None and content.array_records and given.array_records:
                before, after = arrays_of(given), arrays_of(content)
                seen.change(UPDATE, self._names.get(node, ""), number, before, after)
                return


def _mean(contents: list[RecordDict], weighted_by: str) -> dict[str, Any]:
    """As plain Flower does it, for the record; none where the replies are not alike."""
    try:
        return dict(aggregate_metricrecords(contents, weighted_by))
    except Exception:
        return {}
