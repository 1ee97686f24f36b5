"""Takes the events of a run from the ServerApp: for the log, the metrics, and `smpcfl run`."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import grpc

from smpc.v1 import local_pb2 as pb
from smpc.v1 import local_pb2_grpc as pb_grpc

from ..metrics import Metrics
from ..report import RoundRecord, line
from ..rpc import Context

log = logging.getLogger("smpcfl.aggregator")


def records_path(state: Path) -> Path:
    """Where the aggregator with this state folder keeps its records."""
    return state / "records.jsonl"


class RoundsService(pb_grpc.RoundsServicer):
    """Appends each record to `path`, one JSON object a line."""

    def __init__(self, path: Path, metrics: Metrics) -> None:
        self._path = path
        self._metrics = metrics
        self._rounds: int | None = None

    async def Record(self, request: pb.RunEvent, context: Context) -> pb.ReportReply:
        try:
            event = json.loads(request.json)
            kind = event["event"]
            if kind == "start":
                self._rounds = int(event["rounds"])
                self._metrics.rounds_left.set(self._rounds)
                log.info("run %d starts: %d rounds", event["run"], self._rounds)
            elif kind == "log":
                level = logging.getLevelNamesMapping()[event["level"]]
                log.log(level, "%s", event["message"])
            else:
                self._take(RoundRecord.from_json(event["record"]))
        except (ValueError, KeyError, TypeError) as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"no event: {error}")
        return pb.ReportReply()

    def _take(self, record: RoundRecord) -> None:
        log.info("%s", line(record, self._rounds))
        try:
            with self._path.open("a") as file:
                file.write(record.to_json() + "\n")
        except OSError as error:
            log.warning(
                "the record of round %d is not kept in %s: %s", record.round, self._path, error
            )
        observe(self._metrics, record)
        if self._rounds is not None:
            self._metrics.rounds_left.set(self._rounds - record.round)


def observe(metrics: Metrics, record: RoundRecord) -> None:
    """One record as metrics. Bytes here are the aggregator's side of the cohort's."""
    metrics.round.set(record.round)
    metrics.rounds.inc(outcome=record.outcome)
    metrics.round_duration.observe(record.seconds)
    metrics.cohort_peers.set(record.cohort)
    metrics.survivors.set(record.survivors)
    metrics.dropouts.inc(record.dropouts, phase="upload")
    if record.accuracy is not None:
        metrics.model_accuracy.set(record.accuracy)
    if record.loss is not None:
        metrics.model_loss.set(record.loss)
    for phase, seconds in record.phase_seconds.items():
        metrics.phase_duration.observe(seconds, phase=phase)
    metrics.bytes.inc(record.bytes_up * record.cohort, direction="in", channel="flower")
    metrics.bytes.inc(record.bytes_down * record.cohort, direction="out", channel="flower")


def read(path: Path) -> list[RoundRecord]:
    """All records kept; a line torn by a crash is left out."""
    records = []
    for text in path.read_text().splitlines() if path.exists() else ():
        try:
            records.append(RoundRecord.from_json(text))
        except ValueError:
            log.warning("a torn line in %s is left out", path)
    return records
