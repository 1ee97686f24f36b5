"""Updates weighed by the loss, and a model under which one peer's loss is a million times the others'.

The sum is then that one's update, however many took part and however many trainings succeeded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict

from smpcfl.protocol.errors import Reason
from smpcfl.protocol.policy import Policy
from smpcfl.protocol.ring import RingVector, signed
from smpcfl.protocol.ticket import LARGEST_CAP
from smpcfl.protocol.trailer import LENGTH, decode
from support.apps import Arrays, Mods
from support.deployed import Deployed
from support.unchecked import check, removed

pytestmark = pytest.mark.sockets

PEERS, VICTIM, INPUTS = 5, 3, 200
OWN_WEIGHTS = check(Policy, "check", Reason.POLICY_RANGE)


@dataclass
class Regression:
    """An honest app: linear regression by one step, which reports its mean squared error."""

    x: npt.NDArray[np.float32]
    y: npt.NDArray[np.float32]
    runs: int = 0

    def update(self, weight: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        wrong = self.x @ weight - self.y
        return (-0.1 * self.x.T @ wrong / len(self.y)).astype(np.float32)

    def __call__(self, message: Message, context: Context) -> Message:
        self.runs += 1
        weight = message.content.array_records["arrays"]["weight"].numpy()
        loss = float(((self.x @ weight - self.y) ** 2).mean())
        arrays = ArrayRecord({"weight": Array(weight + self.update(weight))})
        metrics = MetricRecord({"num-examples": len(self.y), "loss": loss})
        return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


async def asked(folder: Path) -> tuple[list[str], RingVector | None, dict[str, Regression], int]:
    """Why peers refuse, or the sum; their apps; and how many contributed to it."""
    rng = np.random.default_rng(2)
    async with Deployed(folder, PEERS) as net:
        with Mods(net) as mods:
            apps = {}
            for place, name in enumerate(net.cohort):
                x = rng.normal(size=(40, INPUTS)).astype(np.float32)
                x[:, 0] = place == VICTIM  # a feature that one peer's records alone have
                apps[name] = Regression(x, rng.normal(2, 1, 40).astype(np.float32))
            weight = np.zeros(INPUTS, np.float32)
            weight[0] = 3000.0
            model: Arrays = {"weight": weight}
            ticket = mods.ticket(model, weighted_by="loss", weight_cap=LARGEST_CAP, clip=2.0**-4)
            called = await mods.train(ticket, apps, lambda name: mods.message(ticket, model))
            refusals = [item.refusal for item in called.values() if item.refusal]
            if refusals:
                return refusals, None, apps, 0
            total = await net.finish()
            counted = decode(total.wide[-LENGTH:], PEERS)
            return [], total, apps, counted.contributors


def cosine(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    return float(one @ other / np.sqrt((one @ one) * (other @ other)))


async def test_the_sum_is_one_peer_s_update_where_any_metric_weighs(tmp_path: Path) -> None:
    with removed(OWN_WEIGHTS):
        refusals, total, apps, contributors = await asked(tmp_path)
    assert refusals == []
    assert contributors == PEERS
    assert total is not None
    weight = np.zeros(INPUTS, np.float32)
    weight[0] = 3000.0
    found = signed(total.body).astype(np.float64)
    cosines = [cosine(found, app.update(weight)) for app in apps.values()]
    assert cosines[VICTIM] > 0.999
    assert max(cosines[:VICTIM] + cosines[VICTIM + 1 :]) < 0.5


async def test_nobody_s_update_is_weighed_by_what_a_model_shifts(tmp_path: Path) -> None:
    refusals, _, apps, _ = await asked(tmp_path)
    assert len(refusals) == PEERS
    assert all(text.startswith(f"{Reason.POLICY_RANGE}: weighted_by") for text in refusals)
    assert {app.runs for app in apps.values()} == {0}
