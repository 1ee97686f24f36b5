"""The same rounding gives the same model, bit for bit, whatever the mode and whatever the secrets."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from smpcfl.protocol.keystream import Secret
from smpcfl.protocol.quantise import ModelShape, decode_update, encode_update, model_digest
from smpcfl.protocol.ring import RingVector
from smpcfl.protocol.ticket import ADDITIVE, SEEDED, Ticket
from support.network import Network, make_ticket

ROUNDS, PEERS = 3, 5
Arrays = dict[str, npt.NDArray[Any]]


def initial() -> Arrays:
    rng = np.random.default_rng(0)
    return {
        "weight": rng.normal(size=(6, 4)).astype(np.float32),
        "bias": np.zeros(4, np.float64),
        "batches": np.array(3, np.int64),
        "half": rng.normal(size=3).astype(np.float16),
    }


def train(model: Arrays, peer: int, number: int) -> Arrays:
    """What a peer makes of the model: depends on the model, the peer and the round alone."""
    rng = np.random.default_rng((peer, number))
    return {
        name: (
            array + rng.normal(0, 0.3, array.shape).astype(array.dtype) - array / 8
            if array.dtype.kind == "f"
            else array + peer
        ).astype(array.dtype)
        for name, array in model.items()
    }


def addend(ticket: Ticket, model: Arrays, peer: int, number: int) -> RingVector:
    return encode_update(
        ticket.quantiser,
        model,
        train(model, peer, number),
        examples=60 + 20 * peer,
        rounding=Secret(np.random.default_rng((7, peer, number)).bytes(32)),
    )


def final_model(mode: str, width: int, seed: int, lost: dict[str, str] | None = None) -> Arrays:
    model = initial()
    for number in range(1, ROUNDS + 1):
        layout = ModelShape.of(model).layout(width)
        signed = make_ticket(
            PEERS, mode=mode, width=width, body=layout.body, wide=layout.wide, serial=number
        )
        network = Network(signed, seed=seed, lost=lost or {}, cheap=True)
        network.addends = {
            peer: addend(signed.ticket, model, place, number)
            for place, peer in enumerate(signed.ticket.cohort)
        }
        total = network.run()
        model, _ = decode_update(signed.ticket.quantiser, model, total, len(network.survivors))
    return model


@pytest.mark.parametrize("width", [8, 16, 32, 64])
@pytest.mark.parametrize(("mode", "seed"), [(SEEDED, 2), (ADDITIVE, 1), (ADDITIVE, 3)])
def test_three_rounds_give_the_same_model(width: int, mode: str, seed: int) -> None:
    reference = final_model(SEEDED, width, 1)
    assert model_digest(reference) != model_digest(initial())
    assert model_digest(final_model(mode, width, seed)) == model_digest(reference)


@pytest.mark.parametrize("phase", ["agree", "unmask"])
def test_a_peer_lost_after_its_upload_changes_nothing(phase: str) -> None:
    lost = {"peer-00002": phase}
    assert model_digest(final_model(SEEDED, 16, 1, lost)) == model_digest(
        final_model(SEEDED, 16, 1)
    )


@pytest.mark.parametrize("phase", ["exchange", "ready", "train", "upload"])
def test_the_model_of_the_survivors_does_not_depend_on_when_the_other_was_lost(phase: str) -> None:
    lost = {"peer-00002": "ticket"}
    expected = model_digest(final_model(SEEDED, 16, 1, lost))
    assert model_digest(final_model(SEEDED, 16, 5, {"peer-00002": phase})) == expected


@pytest.mark.parametrize("width", [16, 32, 64])
def test_the_model_is_close_to_the_weighted_mean(width: int) -> None:
    # One plain round of the same training, without clipping in reach, as the reference.
    model, number = initial(), 1
    layout = ModelShape.of(model).layout(width)
    signed = make_ticket(PEERS, width=width, body=layout.body, wide=layout.wide, clip=4.0)
    network = Network(signed, cheap=True)
    network.addends = {
        peer: addend(signed.ticket, model, place, number)
        for place, peer in enumerate(signed.ticket.cohort)
    }
    new, counters = decode_update(signed.ticket.quantiser, model, network.run(), PEERS)
    weights = np.minimum([60 + 20 * p for p in range(PEERS)], 100)
    trained = [train(model, p, number) for p in range(PEERS)]
    unit = 4.0 / signed.ticket.quantiser.span * PEERS * 100 / counters.weight
    for name in ("weight", "bias"):
        pairs = zip(weights, trained, strict=True)
        mean = sum(w * t[name].astype(np.float64) for w, t in pairs) / weights.sum()
        assert np.abs(new[name] - mean).max() < PEERS * unit + 1e-6
