"""The aggregator's account of a run, as metrics."""

from __future__ import annotations

import json
import logging
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from smpc.v1 import local_pb2 as pb
from smpcfl.aggregator.rounds_service import RoundsService, read
from smpcfl.base.metrics import Metrics
from smpcfl.base.state import State
from smpcfl.reports.record import GroupRecord, RoundRecord
from smpcfl.runs.run_events import record_from_proto, record_to_proto
from support.disk import small_disk
from support.fake_runs import a_record

RECORD = a_record(outcome="void", cohort=3, survivors=0, dropouts=3)


def started(done: int) -> pb.RunEvent:
    return pb.RunEvent(start=pb.RunStart(run=1, rounds=2, done=done))


def ended(number: int) -> pb.RunEvent:
    return pb.RunEvent(record=record_to_proto(replace(RECORD, round=number)))


async def send(service: RoundsService, event: pb.RunEvent) -> None:
    await service.Record(event, cast(Any, None))


async def test_the_rounds_left_tell_whether_training_goes_on(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    service = RoundsService(State(tmp_path).records, Metrics("seeded", registry))

    async def take(event: pb.RunEvent) -> float | None:
        await send(service, event)
        return registry.get_sample_value("smpcfl_rounds_left", {"mode": "seeded"})

    assert await take(started(0)) == 2
    assert await take(ended(1)) == 1
    assert await take(started(1)) == 1
    assert await take(ended(2)) == 0


async def test_a_round_that_is_sent_again_after_a_restart_is_counted_once(tmp_path: Path) -> None:
    path = State(tmp_path).records
    before = RoundsService(path, Metrics("seeded", CollectorRegistry()))
    await send(before, ended(1))
    await send(before, ended(2))
    with path.open("a") as file:
        file.write('{"run": 1, "rou')  # torn by the crash
    registry = CollectorRegistry()
    after = RoundsService(path, Metrics("seeded", registry))
    for number in (2, 3):
        await send(after, ended(number))
    assert [record.round for record in read(path)] == [1, 2, 3]
    labels = {"mode": "seeded", "outcome": "void"}
    assert registry.get_sample_value("smpcfl_rounds_total", labels) == 1


async def test_rounds_of_a_later_version_are_read_without_what_it_alone_knows(
    tmp_path: Path,
) -> None:
    path = State(tmp_path).records
    await send(RoundsService(path, Metrics("seeded", CollectorRegistry())), ended(1))
    (known,) = read(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "energy": 7}) + "\n")
    assert read(path) == [known]


async def test_what_the_run_refuses_is_counted_by_its_reason(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    service = RoundsService(State(tmp_path).records, Metrics("seeded", registry))
    for reason in ("bad_share", "wrong_length", "bad_share"):
        await send(service, pb.RunEvent(refusal=pb.Refusal(reason=reason)))
    labels = {"mode": "seeded", "reason": "bad_share"}
    assert registry.get_sample_value("smpcfl_rejected_total", labels) == 2


async def test_a_void_round_counts_under_the_reason_that_it_begins_with(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    service = RoundsService(State(tmp_path).records, Metrics("seeded", registry))
    reasons = ("too_few_survivors: 2", "too_few_survivors", "no peer replied", "x" * 300)
    for number, reason in enumerate(reasons, 1):
        record = replace(RECORD, round=number, reason=reason)
        await send(service, pb.RunEvent(record=record_to_proto(record)))

    def count(reason: str) -> float | None:
        labels = {"mode": "seeded", "reason": reason}
        return registry.get_sample_value("smpcfl_void_rounds_total", labels)

    assert count("too_few_survivors") == 2
    assert count("other") == 2


async def test_bytes_count_for_the_channel_that_they_took(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    service = RoundsService(State(tmp_path).records, Metrics("seeded", registry))
    record = replace(
        RECORD, cohort=4, bytes_up=100, unmask_up=10, bytes_down=200, unmask_down=20, bytes_p2p=7
    )
    await send(service, pb.RunEvent(record=record_to_proto(record)))

    def shown(metric: str) -> dict[tuple[str, str], float]:
        return {
            (sample.labels["direction"], sample.labels["channel"]): sample.value
            for family in registry.collect()
            for sample in family.samples
            if sample.name == metric and sample.value
        }

    flows = {
        ("in", "flower"): 90.0,
        ("out", "flower"): 180.0,
        ("in", "unmask"): 10.0,
        ("out", "unmask"): 20.0,
    }
    assert shown("smpcfl_bytes_total") == {flow: 4 * count for flow, count in flows.items()}
    assert shown("smpcfl_peer_round_bytes") == {
        **flows,
        ("in", "p2p"): 7.0,
        ("out", "p2p"): 7.0,
    }


async def test_the_calls_of_the_server_app_are_counted(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    service = RoundsService(State(tmp_path).records, Metrics("seeded", registry))
    calls = [
        pb.Call(method="Unmask", outcome="ok", seconds=0.5),
        pb.Call(method="Unmask", outcome="ok", seconds=0.25),
        pb.Call(method="Unmask", outcome="error", seconds=5.0),
    ]
    for wire_in in (0, 1000):
        await send(service, pb.RunEvent(calls=pb.Calls(calls=calls, wire_in=wire_in)))
        calls = []

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"smpcfl_{name}", {"mode": "seeded", **labels})

    ok = {"method": "Unmask.out", "outcome": "ok"}
    assert value("rpc_duration_seconds_count", **ok) == 2
    assert value("rpc_duration_seconds_sum", **ok) == 0.75
    assert value("rpc_duration_seconds_sum", **{**ok, "outcome": "error"}) == 5.0
    assert value("wire_bytes_total", connection="peer", direction="in") == 1000
    assert value("wire_bytes_total", connection="peer", direction="out") is None


class Refused(Exception):
    """How a call ends that is aborted."""


@pytest.mark.parametrize(("method", "outcome"), [("Unmask", "perhaps"), ("Anything", "ok")])
async def test_a_call_that_there_is_not_makes_no_label(
    tmp_path: Path, method: str, outcome: str
) -> None:
    class Context:
        async def abort(self, code: grpc.StatusCode, text: str) -> None:
            raise Refused(code)

    registry = CollectorRegistry()
    service = RoundsService(State(tmp_path).records, Metrics("seeded", registry))
    call = pb.Call(method=method, outcome=outcome)
    with pytest.raises(Refused):
        await service.Record(pb.RunEvent(calls=pb.Calls(calls=[call])), cast(Any, Context()))
    assert b"rpc_duration_seconds_count" not in generate_latest(registry)


async def test_records_wait_for_room_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with small_disk(tmp_path / "disk", monkeypatch) as disk:
        path = State(disk.folder).records
        service = RoundsService(path, Metrics("seeded", CollectorRegistry()))
        await send(service, ended(1))
        disk.fill()
        for number in range(2, 40):
            await send(service, ended(number))
        assert "No space left on device" in caplog.text
        disk.make_room()
        await send(service, ended(40))
        assert [record.round for record in read(path)] == list(range(1, 41))


@pytest.mark.parametrize(
    "record",
    [
        RECORD,
        replace(
            RECORD,
            run=2**63 - 1,
            outcome="complete",
            reason="a reason",
            contributors=2,
            withstood=0,
            accuracy=0.0,
            loss=0.1,
            train_loss=1e-9,
            bytes_up=1.5,
            phase_seconds={"train": 0.25, "sum": 0.0},
            draw=2**62,
            groups=(GroupRecord(group=3, outcome="void", reason="why", cohort=5, survivors=0),),
            suspected={"peer-a": ((2**40, 3), (2**40, 4))},
        ),
    ],
)
def test_a_record_reaches_the_service_as_it_is(record: RoundRecord) -> None:
    assert record_from_proto(record_to_proto(record)) == record


def test_a_record_has_a_field_on_the_wire_for_each_of_its_own() -> None:
    assert list(pb.RoundRecord.DESCRIPTOR.fields_by_name) == [
        field.name for field in fields(RoundRecord)
    ]


def test_a_loss_that_is_no_number_reaches_the_service_as_none() -> None:
    sent = replace(RECORD, loss=float("nan"), train_loss=float("inf"))
    assert record_from_proto(record_to_proto(sent)) == RECORD


def test_a_reason_with_half_a_character_is_sent_all_the_same() -> None:
    sent = replace(RECORD, reason="no file \udcff")
    assert record_from_proto(record_to_proto(sent)).reason == "no file ?"


async def test_a_line_of_the_run_is_a_line_of_this_log_with_what_it_is_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    service = RoundsService(State(tmp_path).records, Metrics("seeded", CollectorRegistry()))
    caplog.set_level(logging.INFO)
    about = {"event": "peer_away", "run": 2**62, "round": 3, "peer": "peer-b"}
    lines = pb.LogLine(level=30, text="100 % gone", **about), pb.LogLine(level=20, text="%s there")
    for line in (*lines, pb.LogLine(level=30, text="new", event="of a later version")):
        await send(service, pb.RunEvent(line=line))
    first, second, third = caplog.records[-3:]
    assert (first.levelname, first.getMessage()) == ("WARNING", "100 % gone")
    assert {name: getattr(first, name) for name in about} == about
    assert second.getMessage() == "%s there"
    assert not about.keys() & {**vars(second), **vars(third)}.keys()
