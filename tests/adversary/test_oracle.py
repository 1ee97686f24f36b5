"""Replies that told whether training failed: one bit of a private image each, until nothing was private.

The app is an honest one. The aggregator sends models under which its loss is NaN if and only if one pixel of
one record is dark.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import pytest

from smpcfl.flower.client import mod
from smpcfl.flower.shared.records import upload_of
from smpcfl.protocol.errors import Reason
from smpcfl.protocol.quantise import decode_update
from smpcfl.protocol.ticket import SignedTicket
from smpcfl.tasks.digits import data
from support.apps import App, Arrays, Called, Mods, fresh_model, trains_first
from support.deployed import Deployed

pytestmark = pytest.mark.sockets

PEERS, VICTIM = 5, 2
PIXELS = data.PIXELS
SEARCH = 30  # messages that find the record
DARK = 12.5 / 255  # between two grey levels
MARGIN = 1e-4  # by which one record is further than all others, at least
LARGEST = float(np.finfo(np.float32).max)


def overflowing(direction: npt.NDArray[np.float64], bound: float) -> Arrays:
    """A model whose first logit is infinite for whom `direction` @ x is above `bound`."""
    model = fresh_model(PIXELS, seed=1)
    model["weight"][:, 0] = direction * (LARGEST / bound)
    return model


class Oracle:
    """Asks one peer under one ticket; any answer but "training failed" means that the loss was a number."""

    def __init__(self, mods: Mods, signed: SignedTicket, name: str, app: App) -> None:
        self._ask = lambda model: mods.call(name, app, mods.message(signed, model))
        self.answers: list[Called] = []

    def fails(self, model: Arrays) -> bool:
        answer = self._ask(model)
        self.answers.append(answer)
        return answer.refusal.startswith("training failed")

    def image(self) -> npt.NDArray[np.bool_]:
        """Which pixels of one record are bright: of the one that is furthest in a random direction."""
        direction = np.random.default_rng(7).uniform(0.5, 1.0, PIXELS)
        low, high = 1.0, float(PIXELS)
        for _ in range(SEARCH):
            middle = (low + high) / 2
            if self.fails(overflowing(direction, middle)):
                low = middle
            else:
                high = middle
        # Just below that record and above all others. A pixel's weight less, and a bright one is below too.
        bound = low * (1 - MARGIN)
        found = np.zeros(PIXELS, np.bool_)
        for pixel in range(PIXELS):
            less = direction.copy()
            less[pixel] -= MARGIN * low / DARK
            found[pixel] = not self.fails(overflowing(less, bound))
        return found


async def asked(folder: Path) -> tuple[list[Called], npt.NDArray[np.bool_], App, bool]:
    """Answers, the image that the aggregator makes of them, the app, and whether the round completed then."""
    async with Deployed(folder, PEERS) as net:
        with Mods(net) as mods:
            apps = {name: App(*data.partition(i, 100)) for i, name in enumerate(net.cohort)}
            victim = net.cohort[VICTIM]
            model = fresh_model(PIXELS, seed=2)
            signed = mods.ticket(model)
            oracle = Oracle(mods, signed, victim, apps[victim])
            image = await asyncio.to_thread(oracle.image)
            runs = apps[victim].runs
            called = await mods.train(signed, apps, lambda name: mods.message(signed, model))
            assert [item.refusal for item in called.values()] == [""] * PEERS
            total = await net.finish()
            _, counted = decode_update(signed.ticket.quantiser, model, total, PEERS)
            apps[victim].runs = runs
            return oracle.answers, image, apps[victim], counted.contributors == PEERS


def private_image(app: App, image: npt.NDArray[np.bool_]) -> int:
    """Most pixels that `image` has in common with any of the victim's records."""
    bright = app.x > DARK
    return int((bright == image).sum(axis=1).max())


async def test_a_whole_image_is_read_where_training_comes_before_the_check(tmp_path: Path) -> None:
    with patch.object(mod, "_train", trains_first):
        answers, image, app, completed = await asked(tmp_path)
    assert len(answers) == SEARCH + PIXELS == 814
    assert app.runs == 814
    assert private_image(app, image) == 784
    assert image.any()
    assert completed  # and the honest upload is taken afterwards, as if nothing had been


async def test_a_model_that_is_not_the_tickets_is_refused_before_the_app_runs(
    tmp_path: Path,
) -> None:
    answers, image, app, completed = await asked(tmp_path)
    assert {answer.refusal.split(":")[0] for answer in answers} == {Reason.MODEL_MISMATCH}
    assert len({answer.refusal for answer in answers}) == 1
    assert len({answer.left_s for answer in answers}) == 1
    assert app.runs == 0
    assert image.all()  # of nobody
    assert completed


async def test_under_its_own_ticket_such_a_model_gives_one_upload_of_one_form(
    tmp_path: Path,
) -> None:
    async with Deployed(tmp_path, PEERS) as net:
        with Mods(net) as mods:
            forms = []
            x, y = data.partition(VICTIM)
            direction = np.ones(PIXELS)
            brightest = float(x.sum(axis=1).max())
            for bound in (brightest / 2, brightest * 2):
                apps = {name: App(x, y) for name in net.cohort}
                model = overflowing(direction, bound)
                signed = mods.ticket(model)
                name = net.cohort[VICTIM]
                for other in net.cohort:
                    if other != name:
                        await mods.offer(other, signed)
                found = await mods.ask(name, apps[name], mods.message(signed, model))
                again = await mods.ask(name, apps[name], mods.message(signed, model))
                assert apps[name].runs == 1
                meta, vector, _ = upload_of(found.reply)
                assert upload_of(again.reply)[:2] == (meta, vector)  # the frozen one
                assert (found.addend is None) == (bound < brightest)  # it failed, or did not
                forms.append((len(meta), len(vector), found.left_s))
            assert forms[0] == forms[1]
