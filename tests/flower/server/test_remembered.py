"""What a strategy remembers goes into a checkpoint and comes back, bit for bit."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import (
    DifferentialPrivacyClientSideFixedClipping,
    FedAdam,
    FedAvg,
    FedAvgM,
    Strategy,
)

from smpcfl.flower.server.remembered import Remembered


class Nodes:
    """As much of a grid as is sampled from."""

    def get_node_ids(self) -> list[int]:
        return [1, 2]


def step(strategy: Strategy, number: int) -> Any:
    """One round, with a reply of its own; the model that comes of it."""
    arrays = ArrayRecord({"w": Array(np.full(3, number, np.float32))})
    list(strategy.configure_train(number, arrays, ConfigRecord(), Nodes()))  # type: ignore[arg-type]
    content = {
        "arrays": ArrayRecord({"w": Array(np.linspace(0, number, 3, dtype=np.float32))}),
        "metrics": MetricRecord({"num-examples": 5}),
    }
    found, _ = strategy.aggregate_train(number, [Message(RecordDict(content), 0, "train")])
    assert found is not None
    return found["w"].numpy()


def test_momentum_goes_on_bit_for_bit(make_peers: Any) -> None:
    for kind in (FedAdam, lambda: FedAvgM(server_momentum=0.9)):
        through, before = kind(), kind()
        remembered = Remembered(before)
        for number in (1, 2):
            step(through, number)
            step(before, number)
        kept = remembered.keep()
        after = kind()
        Remembered(after).restore(kept)
        np.testing.assert_array_equal(step(after, 3), step(through, 3))
        assert not np.array_equal(step(kind(), 3), step(through, 3)), "it does depend on it"


def test_what_a_strategy_inside_another_remembers_is_kept_as_well() -> None:
    def wrapped() -> tuple[DifferentialPrivacyClientSideFixedClipping, FedAdam]:
        inner = FedAdam()
        return DifferentialPrivacyClientSideFixedClipping(inner, 0.1, 1.0, 5), inner

    outer, inner = wrapped()
    remembered = Remembered(outer)
    inner.m_t = {"w": np.arange(3.0)}
    outer.clipping_norm = 2.0
    other, within = wrapped()
    Remembered(other).restore(remembered.keep())
    assert other.clipping_norm == 2.0
    assert within.m_t is not None
    np.testing.assert_array_equal(within.m_t["w"], np.arange(3.0))


def test_what_did_not_change_is_not_kept_and_stays_as_the_app_sets_it() -> None:
    strategy = FedAvg()
    assert Remembered(strategy).keep() == b""
    remembered = Remembered(strategy)
    strategy.best = 0.5  # type: ignore[attr-defined]
    again = FedAvg(fraction_train=0.5)  # the app was changed between
    Remembered(again).restore(remembered.keep())
    assert (again.fraction_train, again.best) == (0.5, 0.5)  # type: ignore[attr-defined]


def test_nothing_kept_restores_nothing() -> None:
    strategy = FedAvg(fraction_train=0.5)
    Remembered(strategy).restore(b"")
    assert strategy.fraction_train == 0.5


def test_what_cannot_be_kept_is_left_out() -> None:
    strategy: Any = FedAvg()
    remembered = Remembered(strategy)
    strategy.lock, strategy.function, strategy.count = threading.Lock(), (lambda: None), 3
    again: Any = FedAvg()
    Remembered(again).restore(remembered.keep())
    assert again.count == 3
    assert not hasattr(again, "lock")
    assert not hasattr(again, "function")
