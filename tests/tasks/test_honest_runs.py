"""Honest runs do not pay for what binds the aggregator: limits, whole scaling and rounding."""

from __future__ import annotations

import numpy as np
import pytest

from smpcfl.flower.server.clipping import Clipping
from smpcfl.protocol.keystream import Secret
from smpcfl.protocol.quantise import Quantiser, decode_update, encode_failure, encode_update
from smpcfl.protocol.ring import RingVector
from smpcfl.protocol.rotated import RotatedQuantiser
from smpcfl.tasks.digits import data, model

ROUNDS = 6
EQUAL = (400, 400, 400, 400, 400)
SKEWED = (20, 60, 200, 600, 2000)  # 1:100


def partitions(sizes: tuple[int, ...]) -> list[data.Examples]:
    x, y = data.partition(0, size=sum(sizes))
    ends = np.cumsum(sizes)[:-1]
    return list(zip(np.split(x, ends), np.split(y, ends), strict=True))


def train(state: model.State, part: data.Examples, number: int) -> tuple[model.State, float, int]:
    return model.train(state, *part, epochs=2, seed=number)


def accuracy(state: model.State) -> float:
    return model.evaluate(state, *data.held_out())[0]


def plain(parts: list[data.Examples], seed: int) -> float:
    """FedAvg, weighted by examples."""
    state = model.initial(seed)
    total = sum(len(y) for _, y in parts)
    for number in range(ROUNDS):
        trained = [train(state, part, number)[0] for part in parts]
        state = {
            name: sum(
                t[name] * np.float32(len(y) / total)
                for t, (_, y) in zip(trained, parts, strict=True)
            )
            for name in state
        }
    return accuracy(state)


def summed(
    parts: list[data.Examples], seed: int, failing: int | None = None, width: int = 16
) -> float:
    """The same through ring and trailer, with the limits that follow; masks would cancel."""
    state, rng = model.initial(seed), np.random.default_rng(seed)
    clipping = Clipping() if width > 8 else Clipping.fitting(state)
    for number in range(ROUNDS):
        numbers = width, clipping.clip, clipping.weight_cap, len(parts)
        quantiser = (
            Quantiser(*numbers)
            if width > 8
            else RotatedQuantiser(*numbers, signs=Secret(rng.bytes(32)))
        )
        total: RingVector | None = None
        for index, part in enumerate(parts):
            trained, _, _ = train(state, part, number)
            vector = encode_update(
                quantiser,
                state,
                trained,
                examples=len(part[1]),
                rounding=Secret(rng.bytes(32)),
            )
            if index == failing:
                vector = encode_failure(vector.layout, len(parts))
            total = vector if total is None else total + vector
        assert total is not None
        decoded, counted = decode_update(quantiser, state, total, len(parts))
        assert counted.contributors == len(parts) - (failing is not None)
        fitting = quantiser.fitting_clip(total.body, model.PARAMETERS, counted.contributors)
        state, clipping = {**decoded}, clipping.after(counted, fitting)
    return accuracy(state)


@pytest.mark.parametrize("sizes", [EQUAL, SKEWED], ids=["equal", "1:100"])
def test_the_sum_trains_as_well_as_plain_averaging(sizes: tuple[int, ...]) -> None:
    """The default ring of 16 bits, from the first round on. Held out are 1,000 digits."""
    parts = partitions(sizes)
    plainly = np.mean([plain(parts, seed) for seed in (1, 2)])
    securely = np.mean([summed(parts, seed) for seed in (1, 2)])
    assert securely >= plainly - 0.01, (plainly, securely)


@pytest.mark.parametrize("sizes", [EQUAL, SKEWED], ids=["equal", "1:100"])
def test_so_it_does_with_eight_bits(sizes: tuple[int, ...]) -> None:
    parts = partitions(sizes)
    plainly = np.mean([plain(parts, seed) for seed in (1, 2)])
    securely = np.mean([summed(parts, seed, width=8) for seed in (1, 2)])
    assert securely >= plainly - 0.01, (plainly, securely)


def test_a_peer_whose_training_always_fails_costs_its_own_part_alone() -> None:
    parts = partitions(EQUAL)
    others = parts[1:]
    assert summed(parts, 1, failing=0) >= plain(others, 1) - 0.01
