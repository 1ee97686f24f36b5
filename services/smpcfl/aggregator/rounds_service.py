"""Takes the events of a run from the ServerApp: for the log, the metrics, and `smpcfl run`."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path

import grpc

from smpc.v1 import local_pb2 as pb
from smpc.v1 import local_pb2_grpc as pb_grpc
from smpc.v1 import peer_pb2

from ..base.log_events import LogEvent, about
from ..base.metrics import Metrics
from ..net.rpc import RPC_OUTCOMES, Context
from ..net.wire_bytes import PEER
from ..protocol.errors import Reason
from ..reports.record import RoundRecord, line
from ..runs.run_events import record_from_proto

_METHODS = peer_pb2.DESCRIPTOR.services_by_name["Peer"].methods_by_name
log = logging.getLogger("smpcfl.aggregator")


class RoundsService(pb_grpc.RoundsServicer):
    """Appends each record to `path`, one JSON object a line; a round that it has is not taken again.

    `hear` gets each event as well.
    """

    def __init__(
        self,
        path: Path,
        metrics: Metrics,
        hear: Callable[[pb.RunEvent], None] = lambda event: None,
    ) -> None:
        self._path = path
        self._hear = hear
        self._metrics = metrics
        self._rounds: int | None = None
        _mend(path)
        kept = read(path)
        self._last = (kept[-1].run, kept[-1].round) if kept else None
        self._unwritten: list[str] = []

    async def Record(self, request: pb.RunEvent, context: Context) -> pb.ReportReply:
        try:
            match request.WhichOneof("event"):
                case "start":
                    self._start(request.start)
                case "record":
                    self._take(record_from_proto(request.record))
                case "line":
                    _pass_on(request.line)
                case "phase":
                    log.debug("round %d: %s begins", request.phase.round, request.phase.phase)
                case "refusal":
                    self._metrics.rejected.inc(reason=Reason(request.refusal.reason).value)
                case "calls":
                    self._take_calls(request.calls)
                case None:
                    raise ValueError("it is empty")
            self._hear(request)
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"no event: {error}")
        return pb.ReportReply()

    def _start(self, start: pb.RunStart) -> None:
        run, rounds, done = start.run, start.rounds, start.done
        self._rounds = rounds
        self._metrics.rounds_left.set(rounds - done)
        if done >= rounds:
            log.info(
                "resuming run %d after its last round, %d",
                run,
                done,
                extra=about(LogEvent.RUN_STARTED, run=run),
            )
        elif done:
            log.info(
                "resuming run %d at round %d after round %d's checkpoint",
                run,
                done + 1,
                done,
                extra=about(LogEvent.RUN_STARTED, run=run),
            )
        else:
            log.info(
                "run %d starts: %d rounds", run, rounds, extra=about(LogEvent.RUN_STARTED, run=run)
            )

    def _take_calls(self, found: pb.Calls) -> None:
        for call in found.calls:
            if call.method not in _METHODS or call.outcome not in RPC_OUTCOMES:
                raise ValueError(f"no call {call.method!r} that ends {call.outcome!r}")
            labels = {"method": f"{call.method}.out", "outcome": call.outcome}
            self._metrics.rpc_duration.observe(call.seconds, **labels)
        for direction, carried in ("in", found.wire_in), ("out", found.wire_out):
            if carried:
                self._metrics.wire_bytes.inc(carried, direction=direction, connection=PEER)

    def _take(self, record: RoundRecord) -> None:
        if self._last is not None and self._last[0] == record.run and record.round <= self._last[1]:
            log.info("round %d of run %d is counted already", record.round, record.run)
            return
        self._last = (record.run, record.round)
        log.info(
            "%s",
            line(record, self._rounds),
            extra=about(LogEvent.ROUND_ENDED, run=record.run, round=record.round),
        )
        self._unwritten.append(record.to_json() + "\n")
        try:
            _append(self._path, "".join(self._unwritten))
            self._unwritten.clear()
        except OSError as error:
            log.error(
                "the record of round %d is not kept yet in %s: %s; make room",
                record.round,
                self._path,
                error.strerror,
                extra=about(LogEvent.STORAGE_FAILED, run=record.run, round=record.round),
            )
        observe(self._metrics, record)
        if self._rounds is not None:
            self._metrics.rounds_left.set(self._rounds - record.round)


def _pass_on(line: pb.LogLine) -> None:
    """The text is the template: else all lines of the ServerApp would count as one that repeats."""
    event = next((event for event in LogEvent if event == line.event), None)
    extra = about(event, run=line.run, round=line.round, peer=line.peer)
    log.log(line.level, line.text, extra=extra)


def _append(path: Path, text: str) -> None:
    """Durable, and whole or not at all."""
    data = text.encode()
    with path.open("ab", buffering=0) as file:
        before = file.tell()
        try:
            if file.write(data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file.fileno())
        except OSError:
            os.ftruncate(file.fileno(), before)
            raise


def _mend(path: Path) -> None:
    """A last line torn by a crash is taken off: the next one must not be glued to it."""
    if path.exists() and not (text := path.read_bytes()).endswith(b"\n"):
        os.truncate(path, text.rfind(b"\n") + 1)


def observe(metrics: Metrics, record: RoundRecord) -> None:
    """One record as metrics. Bytes here are the aggregator's side of the cohort's."""
    metrics.round.set(record.round)
    metrics.rounds.inc(outcome=record.outcome)
    if record.outcome == "void":
        metrics.void_rounds.inc(reason=_reason(record.reason))
    else:
        metrics.failed_trainings.inc(record.survivors - record.contributors)
    for group in record.groups:
        metrics.group_rounds.inc(outcome=group.outcome)
    metrics.suspected.set(len(record.suspected))
    metrics.round_duration.observe(record.seconds)
    metrics.cohort_peers.set(record.cohort)
    metrics.survivors.set(record.survivors)
    metrics.contributors.set(record.contributors)
    if record.withstood is not None:
        metrics.withstood.set(record.withstood)
    metrics.dropouts.inc(record.dropouts, phase="upload")
    if record.accuracy is not None:
        metrics.model_accuracy.set(record.accuracy)
    if record.loss is not None:
        metrics.model_loss.set(record.loss)
    for phase, seconds in record.phase_seconds.items():
        metrics.phase_duration.observe(seconds, phase=phase)
    if record.plain_bytes:
        metrics.plain_update.set(record.plain_bytes)
    if record.flower_seconds is not None:
        metrics.flower_seconds.set(record.flower_seconds)
    flows = {
        ("in", "flower"): record.bytes_up - record.unmask_up,
        ("out", "flower"): record.bytes_down - record.unmask_down,
        ("in", "unmask"): record.unmask_up,
        ("out", "unmask"): record.unmask_down,
    }
    for (direction, channel), count in flows.items():
        metrics.bytes.inc(count * record.cohort, direction=direction, channel=channel)
        metrics.peer_round_bytes.set(count, direction=direction, channel=channel)
    # It does not pass here: what peers say that they sent, and so got.
    for direction in ("in", "out"):
        metrics.peer_round_bytes.set(record.bytes_p2p, direction=direction, channel="p2p")


def _reason(text: str) -> str:
    """For a label: the protocol's reason that `text` begins with, if it does."""
    word = text.partition(":")[0]
    return word if word in list(Reason) else "other"


def read(path: Path) -> list[RoundRecord]:
    """All records kept; a line torn by a crash is left out."""
    records = []
    for text in path.read_bytes().splitlines() if path.exists() else ():
        try:
            records.append(RoundRecord.from_json(text.decode(), newer=True))
        except ValueError:
            log.warning("a torn line in %s is left out", path)
    return records
