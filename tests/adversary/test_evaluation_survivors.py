"""A training's metrics less an evaluation's of the same model, over all but one: that one's metrics.

The app reports the same of one model in both tasks, as one does that evaluates on the data it trains on.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from smpcfl.protocol.errors import Reason
from smpcfl.protocol.ledger import Ledger
from support.apps import Mods, fresh_model, step
from support.deployed import Deployed
from support.evaluations import Asks, Evaluates, Summed, data_of, refused_by_all
from support.unchecked import Check, check, removed

pytestmark = pytest.mark.sockets

PEERS, VICTIM, PIXELS = 5, 4, 12
ALL_BUT_ONE = tuple(range(VICTIM))
OVER_ITS_TRAINING = check(Ledger, "_agree_to_evaluation", "_check_apart")
NO_ZEROS = check(Ledger, "answer", Reason.CONFLICTING_SURVIVORS)
WAYS = {
    "survivors less one": OVER_ITS_TRAINING,
    "after another training over all but one": OVER_ITS_TRAINING,
    "one that outlasts its time": NO_ZEROS,
}
way_and_check = pytest.mark.parametrize(("way", "stops"), WAYS.items(), ids=list(WAYS))


async def asked(folder: Path, way: str) -> tuple[Summed, Summed | list[str], Evaluates]:
    """The sums of a training and of an evaluation of one model, and the victim's app."""
    rng = np.random.default_rng(5)
    async with Deployed(folder, PEERS) as net:
        with Mods(net) as mods:
            apps = {
                name: Evaluates(*data_of(rng, 20 + place, PIXELS))
                for place, name in enumerate(net.cohort)
            }
            victim = apps[net.cohort[VICTIM]]
            asks, model = Asks(mods, apps), fresh_model(PIXELS, seed=1)
            first = await asks.train(model)
            if way == "after another training over all but one":
                await asks.train(fresh_model(PIXELS, seed=2), ALL_BUT_ONE)
            victim.endless = way == "one that outlasts its time"
            second = await asks.evaluate(model, () if victim.endless else ALL_BUT_ONE)
            victim.over.set()
            return first, second, victim


@way_and_check
async def test_one_peer_s_metrics_are_what_is_left(tmp_path: Path, way: str, stops: Check) -> None:
    with removed(stops):
        first, second, victim = await asked(tmp_path, way)
    assert isinstance(second, Summed)
    left = first.less(second)
    _, loss, correct = step(fresh_model(PIXELS, seed=1), victim.x, victim.y)
    assert (left.counted.contributors, left.counted.examples) == (1, len(victim.y))
    assert left.means() == {"correct": float(correct), "loss": pytest.approx(loss, abs=1e-9)}


@way_and_check
async def test_nobody_agrees_to_such_an_evaluation_or_answers_it(
    tmp_path: Path, way: str, stops: Check
) -> None:
    _, second, _ = await asked(tmp_path, way)
    assert refused_by_all(second, Reason.CONFLICTING_SURVIVORS, PEERS)


async def test_over_the_same_peers_it_is_summed(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    async with Deployed(tmp_path, PEERS) as net:
        with Mods(net) as mods:
            apps = {name: Evaluates(*data_of(rng, 20, PIXELS)) for name in net.cohort}
            asks, model = Asks(mods, apps), fresh_model(PIXELS, seed=1)
            first, second = await asks.train(model), await asks.evaluate(model)
            assert isinstance(second, Summed)
            assert first.means() == second.means()
