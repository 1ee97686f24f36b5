"""Tickets and messages that mix training and evaluation: refused before the app runs."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from smpcfl.flower.client import mod
from smpcfl.protocol.errors import Reason
from smpcfl.protocol.ticket import EVALUATE, TRAIN, SignedTicket, Ticket
from support.apps import Called, Mods, fresh_model
from support.deployed import Deployed
from support.evaluations import METRICS, Evaluates, data_of
from support.unchecked import check, removed

pytestmark = pytest.mark.sockets

PEERS, PIXELS = 5, 12
FORM = check(Ticket, "__post_init__", Reason.MALFORMED)
MODEL = fresh_model(PIXELS, seed=1)


def with_task(net: Deployed, signed: SignedTicket, task: str) -> SignedTicket:
    """The aggregator's signature over what no honest one makes."""
    ticket = copy.copy(signed.ticket)
    for cached in ("signed_bytes", "digest"):
        ticket.__dict__.pop(cached, None)
    object.__setattr__(ticket, "task", task)
    return net.sign(ticket)


async def asked(
    folder: Path, *, ticket: str, relabelled: str = "", message: str
) -> tuple[Called, Evaluates]:
    """What one peer says to a `message` with a ticket to `ticket`, whose task is then another."""
    async with Deployed(folder, PEERS) as net:
        with Mods(net) as mods:
            app = Evaluates(*data_of(np.random.default_rng(1), 20, PIXELS))
            # Over the content as the message's own type has it: all digests are right.
            signed = _ticket_for(mods, ticket, message)
            if relabelled:
                signed = with_task(net, signed, relabelled)
            for other in net.cohort[1:]:
                await _offered(mods, other, signed)
            given = mods.message(signed, MODEL, message_type=message)
            return await mods.ask(net.cohort[0], app, given), app


async def _offered(mods: Mods, name: str, signed: SignedTicket) -> None:
    try:
        await mods.offer(name, signed)
    except Exception:  # refused there as well
        assert mods.net.peers[name].rejected(Reason.MALFORMED)


def _ticket_for(mods: Mods, task: str, message_type: str) -> SignedTicket:
    right = mods.ticket(MODEL, task=message_type, metrics=METRICS)
    layout = mods.ticket(MODEL, task=task, metrics=METRICS).ticket
    changes: dict[str, Any] = {
        "task": task,
        "config_digest": right.ticket.config_digest,
        "body": layout.body,
        "wide": layout.wide,
    }
    return mods.ticket(MODEL, metrics=METRICS, **changes)


@contextmanager
def types_not_compared() -> Iterator[None]:
    """The mod without its comparison of the message's type with the ticket's task."""
    source = inspect.getsource(mod._train)
    compared = 'message.metadata.message_type.partition(".")[0] != ticket.task'
    assert source.count(compared) == 1
    made: dict[str, Any] = {}
    exec(source.replace(compared, "False"), vars(mod), made)
    with patch.object(mod, "_train", made["_train"]):
        yield


@pytest.mark.parametrize(("ticket", "message"), [(EVALUATE, TRAIN), (TRAIN, EVALUATE)])
async def test_a_message_of_the_other_task_is_refused_before_the_app_runs(
    tmp_path: Path, ticket: str, message: str
) -> None:
    called, app = await asked(tmp_path, ticket=ticket, message=message)
    assert called.refusal == f"a {message} message with a ticket to {ticket}"
    assert app.runs == 0


@pytest.mark.parametrize(("ticket", "message"), [(EVALUATE, TRAIN), (TRAIN, EVALUATE)])
async def test_where_nobody_compares_them_it_is_followed(
    tmp_path: Path, ticket: str, message: str
) -> None:
    """A training's metrics under the rules of an evaluation, or the reverse."""
    with types_not_compared():
        called, app = await asked(tmp_path, ticket=ticket, message=message)
    assert called.refusal == ""
    assert app.kinds == [message]


async def test_an_evaluation_with_a_model_in_its_vector_is_malformed(tmp_path: Path) -> None:
    called, app = await asked(tmp_path, ticket=TRAIN, relabelled=EVALUATE, message=EVALUATE)
    assert called.refusal.startswith(Reason.MALFORMED)
    assert app.runs == 0


async def test_without_the_check_of_its_form_the_model_does_not_fit_it(tmp_path: Path) -> None:
    with removed(FORM):
        called, app = await asked(tmp_path, ticket=TRAIN, relabelled=EVALUATE, message=EVALUATE)
    assert called.refusal == "the model has another number of entries than the ticket says"
    assert app.runs == 0


async def test_with_neither_check_the_app_runs(tmp_path: Path) -> None:
    with removed(FORM), patch.object(Ticket, "layout_of", lambda self, model: self.layout):
        _, app = await asked(tmp_path, ticket=TRAIN, relabelled=EVALUATE, message=EVALUATE)
    assert app.runs == 1
