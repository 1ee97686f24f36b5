"""What the ServerApp measures of its calls to peers: for the aggregator's service, which has the metrics."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc.aio

from smpc.v1 import local_pb2 as pb

from ...net import rpc
from ...net.directory import Directory
from ...net.wire_bytes import WireBytes, peers_of

log = logging.getLogger("smpcfl.aggregator")


class PeerCalls:
    """Calls, and what connections to the peers of `directory` carry, from `open` to `close`."""

    def __init__(self, report: Callable[[pb.RunEvent], None]) -> None:
        self._report = report
        self._calls: list[pb.Call] = []
        self._carried: Counter[str] = Counter()  # by direction
        self._wire: WireBytes | None = None

    def open(self, directory: Directory) -> None:
        try:
            self._wire = WireBytes(self._count, listening={}, dialled=lambda: peers_of(directory))
        except OSError as error:  # the service has said so
            log.debug("what connections carry is not counted: %s", error)

    def _count(self, direction: str, connection: str, number: int) -> None:
        self._carried[direction] += number

    @contextmanager
    def call(self, method: str) -> Iterator[None]:
        """Of one call, unless it is cancelled, because nobody waits for it any more."""
        began = time.perf_counter()
        try:
            yield
        except grpc.aio.AioRpcError as error:
            outcome = "refused" if rpc.reason_of(error) is not None else "error"
            self._add(method, outcome, began)
            raise
        self._add(method, "ok", began)

    def _add(self, method: str, outcome: str, began: float) -> None:
        seconds = time.perf_counter() - began
        self._calls.append(pb.Call(method=method, outcome=outcome, seconds=seconds))

    def look(self) -> None:
        """Before connections are closed: of those that are, nobody sees any more whose they were."""
        if self._wire is not None:
            self._wire.look()

    def close(self) -> None:
        """Tells the service."""
        if self._wire is not None:
            self._wire.look()
            self._wire.close()
        found = pb.Calls(
            calls=self._calls, wire_in=self._carried["in"], wire_out=self._carried["out"]
        )
        if self._calls:
            self._report(pb.RunEvent(calls=found))
