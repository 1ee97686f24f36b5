"""The bytes of messages that this peer sent and got: in its metrics, and with whom, for the live page."""

from __future__ import annotations

from collections import Counter

from smpc.v1 import peer_pb2 as pb

from ..base.metrics import Metrics

_MOST = 1024  # peers that are told apart; a cohort has no more


class Traffic:
    """Since the start. Sizes of messages follow from the protocol, and none from a peer's data."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._sent: Counter[str] = Counter()
        self._by_channel: Counter[tuple[str, str]] = Counter()

    def count(self, amount: float, direction: str, channel: str, peer: str = "") -> None:
        """`direction`, `channel`: as smpcfl_bytes_total has them; `peer`: whom it was sent to, if known."""
        self._metrics.bytes.inc(amount, direction=direction, channel=channel)
        self._by_channel[direction, channel] += int(amount)
        if peer and direction == "out" and (peer in self._sent or len(self._sent) < _MOST):
            self._sent[peer] += int(amount)

    def to_proto(self) -> pb.TrafficReply:
        return pb.TrafficReply(
            sent=self._sent,
            flower_out=self._by_channel["out", "flower"],
            flower_in=self._by_channel["in", "flower"],
            unmask_out=self._by_channel["out", "unmask"],
            unmask_in=self._by_channel["in", "unmask"],
        )
