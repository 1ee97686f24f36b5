"""Evaluations of crafted models: each sum is an answer to a question about one record of somebody's.

The app is an honest one: it reports the loss and the correct predictions of the model that it is given.
"""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from smpcfl.protocol.errors import Reason
from smpcfl.protocol.ledger import Ledger
from smpcfl.protocol.policy import Policy
from smpcfl.protocol.ring import WIDE
from smpcfl.protocol.summed_metrics import MetricNames
from smpcfl.protocol.ticket import EVALUATE
from support.apps import Arrays, Mods, fresh_model
from support.deployed import Deployed
from support.evaluations import METRICS, Asks, Evaluates, Summed, data_of, refused_by_all
from support.network import make_ticket
from support.unchecked import check, removed

PEERS, VICTIM, PIXELS, RECORDS = 5, 2, 12, 20
ONE_EVALUATION = check(Ledger, "check_evaluation", Reason.SECOND_EVALUATION)
LARGEST = float(np.finfo(np.float32).max)


def asking_for_more_than(bound: float) -> Arrays:
    """A model under which only records whose pixels, as a number, exceed `bound` cost more than ln 9.

    The nine other classes have equal odds, and class 0, of which there is none, e^z of them.
    """
    weight = np.zeros((PIXELS, 10), np.float32)
    weight[:, 0] = 40 * 2.0 ** np.arange(PIXELS)
    bias = np.zeros(10, np.float32)
    bias[0] = -40 * bound
    return {"weight": weight, "bias": bias}


def as_number(x: np.ndarray) -> int:
    return int((x @ 2.0 ** np.arange(PIXELS)).max())


def apps_of(net: Deployed) -> dict[str, Evaluates]:
    rng = np.random.default_rng(3)
    return {name: Evaluates(*data_of(rng, RECORDS, PIXELS)) for name in net.cohort}


@pytest.mark.sockets
async def test_a_record_is_read_bit_by_bit_where_any_model_may_be_evaluated(tmp_path: Path) -> None:
    with removed(ONE_EVALUATION):
        async with Deployed(tmp_path, PEERS) as net:
            with Mods(net) as mods:
                asks, questions = Asks(mods, apps_of(net)), 0
                low, high = 0, 2**PIXELS
                while high - low > 1:
                    middle = (low + high) // 2
                    found = await asks.evaluate(asking_for_more_than(middle - 0.5))
                    questions += 1
                    assert isinstance(found, Summed)
                    extra = found.times_examples("loss") - np.log(9) * found.counted.examples
                    low, high = (middle, high) if extra > 0.1 else (low, middle)
                brightest = max(as_number(app.x) for app in asks.apps.values())
    assert questions == PIXELS
    assert low == brightest  # one record of one peer, every pixel of it


@pytest.mark.sockets
async def test_a_second_model_that_nobody_trains_on_is_evaluated_by_nobody(tmp_path: Path) -> None:
    async with Deployed(tmp_path, PEERS) as net:
        with Mods(net) as mods:
            apps = apps_of(net)
            asks = Asks(mods, apps)
            assert isinstance(await asks.evaluate(asking_for_more_than(2047.5)), Summed)
            for bound in (1023.5, 2047.5):  # another model, and the same one
                found = await asks.evaluate(asking_for_more_than(bound))
                assert refused_by_all(found, Reason.SECOND_EVALUATION, PEERS)
            for index in range(PEERS):
                await net.restart(index)
            for peer in net.peers.values():
                peer.directory.by_registry = net.addresses()
            found = await asks.evaluate(asking_for_more_than(511.5))
            assert refused_by_all(found, Reason.SECOND_EVALUATION, PEERS)
            assert {app.runs for app in apps.values()} == {1}


def test_an_hour_s_tickets_leave_thirty_crafted_models_with_a_training_on_each() -> None:
    ledger, policy, now_ms, asked = Ledger(), Policy(), 10**12, 0
    train = make_ticket(PEERS).ticket
    for number in range(policy.tickets_per_hour // 2):
        for task, body in ((EVALUATE, 0), (train.task, train.body)):
            changes = {"task": task, "body": body, "model_digest": bytes([number]) * 32}
            ticket = make_ticket(PEERS, **changes).ticket  # type: ignore[arg-type]
            ledger.check(ticket, policy, now_ms)
            ledger.accept(ticket, now_ms)
            asked += task == EVALUATE
    assert asked == 30


# -- all but one have no number to report ---------------------------------------------------------------


async def only_one_reports(folder: Path) -> tuple[Summed, Summed]:
    """The sum of metrics that are NaN for all but the victim; and what the victim adds to it."""
    async with Deployed(folder, PEERS) as net:
        with Mods(net) as mods:
            apps = apps_of(net)
            apps[net.cohort[VICTIM]].x[:, 0] = 0.0  # a pixel that is dark in all its records
            model = fresh_model(PIXELS, seed=1)
            # Infinite where the pixel is bright: a loss of infinity less infinity.
            model["weight"][0, 0] = model["bias"][0] = LARGEST
            found = await Asks(mods, apps).evaluate(model)
            assert isinstance(found, Summed)
            return found, Summed.of(net.addends[net.cohort[VICTIM]], 1)


@pytest.mark.sockets
async def test_the_one_whose_metrics_are_numbers_is_read_where_others_add_zeros(
    tmp_path: Path,
) -> None:
    def zeros(self: MetricNames, entropy: object) -> np.ndarray:
        return np.zeros(self.words, WIDE)

    with patch.object(MetricNames, "noise", zeros):
        found, own = await only_one_reports(tmp_path)
    assert (found.counted.contributors, found.counted.reporters) == (PEERS, 1)
    assert found.words.tolist() == own.words.tolist()
    correct = METRICS.decode(found.words, 1, RECORDS)["correct"]
    assert correct == own.means()["correct"]


@pytest.mark.sockets
async def test_the_noise_of_the_others_leaves_nothing_to_read(tmp_path: Path) -> None:
    found, own = await only_one_reports(tmp_path)
    assert (found.counted.contributors, found.counted.reporters) == (PEERS, 1)
    # What is left of each word without the victim is noise, in the high half as in the low one.
    rest = (found.words - own.words).astype(WIDE)
    assert len(set((rest >> np.uint64(32)).tolist())) == METRICS.words
    assert len(set((rest & np.uint64(2**32 - 1)).tolist())) == METRICS.words
    assert (found.words >> np.uint64(58)).any()  # no sum of five reaches that, in its low words
