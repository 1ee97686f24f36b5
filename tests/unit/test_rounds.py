"""The aggregator's account of a run, as metrics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from prometheus_client import CollectorRegistry

from smpc.v1 import local_pb2 as pb
from smpcfl.aggregator.rounds import RoundsService
from smpcfl.metrics import Metrics
from smpcfl.report import RoundRecord


async def test_the_rounds_left_tell_whether_training_goes_on(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    service = RoundsService(tmp_path / "records.jsonl", Metrics("seeded", registry))

    async def take(event: dict[str, Any]) -> float | None:
        await service.Record(pb.RunEvent(json=json.dumps(event)), cast(Any, None))
        return registry.get_sample_value("smpcfl_rounds_left", {"mode": "seeded"})

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

    assert await take({"event": "start", "run": 1, "rounds": 2}) == 2
    assert await take(ended(1)) == 1
    assert await take(ended(2)) == 0
