"""The aggregator's account of a run, as metrics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from smpc.v1 import local_pb2 as pb
from smpcfl.aggregator.rounds_service import RoundsService, read
from smpcfl.base.metrics import Metrics
from smpcfl.reports.report import RoundRecord
from support.disk import small_disk


def ended(number: int) -> dict[str, Any]:
    record = RoundRecord(
        run=1,
        round=number,
        mode="seeded",
        outcome="void",
        cohort=3,
        survivors=0,
        dropouts=3,
        accuracy=None,
        loss=None,
        train_loss=None,
        bytes_up=0.0,
        bytes_down=0.0,
        bytes_p2p=0.0,
        seconds=1.0,
        phase_seconds={},
    )
    return {"event": "round", "record": record.to_json()}


async def send(service: RoundsService, event: dict[str, Any]) -> None:
    await service.Record(pb.RunEvent(json=json.dumps(event)), cast(Any, None))


async def test_the_rounds_left_tell_whether_training_goes_on(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    service = RoundsService(tmp_path / "records.jsonl", Metrics("seeded", registry))

    async def take(event: dict[str, Any]) -> float | None:
        await send(service, event)
        return registry.get_sample_value("smpcfl_rounds_left", {"mode": "seeded"})

    assert await take({"event": "start", "run": 1, "rounds": 2, "done": 0}) == 2
    assert await take(ended(1)) == 1
    assert await take({"event": "start", "run": 1, "rounds": 2, "done": 1}) == 1
    assert await take(ended(2)) == 0


async def test_a_round_that_is_sent_again_after_a_restart_is_counted_once(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
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


async def test_what_the_run_refuses_is_counted_by_its_reason(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    service = RoundsService(tmp_path / "records.jsonl", Metrics("seeded", registry))
    for reason in ("bad_share", "wrong_length", "bad_share"):
        await send(service, {"event": "refused", "reason": reason})
    labels = {"mode": "seeded", "reason": "bad_share"}
    assert registry.get_sample_value("smpcfl_rejected_total", labels) == 2


async def test_records_wait_for_room_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with small_disk(tmp_path / "disk", monkeypatch) as disk:
        path = disk.folder / "records.jsonl"
        service = RoundsService(path, Metrics("seeded", CollectorRegistry()))
        await send(service, ended(1))
        disk.fill()
        for number in range(2, 40):
            await send(service, ended(number))
        assert "No space left on device" in caplog.text
        disk.make_room()
        await send(service, ended(40))
        assert [record.round for record in read(path)] == list(range(1, 41))
