"""What is recorded of a round, and under which of an app's names accuracy and loss are found."""

from __future__ import annotations

from typing import Any

import pytest
from flwr.app import Message, RecordDict

from smpcfl.flower.server.round_record import OpenRound
from smpcfl.flower.server.secure_round import Outcome


def outcome(**changes: Any) -> Outcome:
    return Outcome(
        **{
            "replies": [Message(RecordDict(), 0, "train")],
            "cohort": 5,
            "survivors": 4,
            "contributors": 4,
            **changes,
        }
    )


def opened(**changes: Any) -> OpenRound:
    return OpenRound(3, 0.0, **{"seconds": 2.0, "outcome": outcome(), **changes})


@pytest.fixture(autouse=True)
def _messages(make_peers: Any) -> None:
    """As in a ServerApp's process."""


@pytest.mark.parametrize(
    ("metrics", "accuracy", "loss"),
    [
        ({"accuracy": 0.5, "loss": 1.0}, 0.5, 1.0),
        ({"eval_acc": 0.5, "eval_loss": 1.0}, 0.5, 1.0),
        ({"top5_accuracy": 0.9, "accuracy": 0.5}, 0.5, None),
        ({"Val_Accuracy": 0.9, "acc": 0.5}, 0.9, None),
        ({"mean-log-loss": 2, "lossy": 9.0, "accuracy-by-kind": [0.5]}, None, 2.0),
        ({"accuracy": [0.5], "test_accuracy": 0.25}, 0.25, None),
        ({"accuracy": float("nan"), "loss": float("inf")}, None, None),
        ({}, None, None),
    ],
)
def test_accuracy_and_loss_go_by_the_name(
    metrics: dict[str, Any], accuracy: float | None, loss: float | None
) -> None:
    record = opened(evaluated=metrics).record(1, "seeded", None)
    assert (record.accuracy, record.loss) == (accuracy, loss)


def test_the_loss_in_training_is_the_clients() -> None:
    found = opened(outcome=outcome(metrics={"train_loss": 0.7, "accuracy": 0.9}))
    record = found.record(1, "seeded", None)
    assert (record.train_loss, record.accuracy) == (0.7, None)


def test_an_evaluation_by_the_clients_is_part_of_the_round() -> None:
    found = opened(
        outcome=outcome(
            bytes_up=100.0, bytes_down=200.0, bytes_p2p=300.0, unmask_up=5.0, unmask_down=10.0
        )
    )
    evaluation = outcome(
        bytes_up=10.0,
        bytes_down=20.0,
        bytes_p2p=30.0,
        unmask_up=5.0,
        unmask_down=15.0,
        metrics={"acc": 0.5},
    )
    found.add(evaluation, 1.5)
    record = found.record(7, "seeded", 0.5)
    assert (record.run, record.round, record.mode, record.seconds) == (7, 3, "seeded", 3.5)
    assert (record.bytes_up, record.bytes_down, record.bytes_p2p) == (22.0, 44.0, 66.0)
    assert (record.unmask_up, record.unmask_down) == (2.0, 5.0)
    assert (record.phase_seconds["evaluate"], record.flower_seconds) == (1.5, 0.5)
    assert (record.accuracy, record.dropouts, record.outcome) == (0.5, 1, "complete")


def test_a_round_without_a_reply_is_void_with_its_reason() -> None:
    record = opened(outcome=Outcome(reason="too few", cohort=0)).record(1, "seeded", None)
    assert (record.outcome, record.reason, record.bytes_up) == ("void", "too few", 0.0)


def test_a_round_that_is_tried_again_costs_what_both_tries_did() -> None:
    found = opened(outcome=Outcome())
    found.tried(
        outcome(bytes_up=10.0, bytes_p2p=5.0, phase_seconds={"train": 3.0}, lost={"a": "x"})
    )
    found.tried(outcome(bytes_up=20.0, bytes_p2p=5.0, phase_seconds={"train": 4.0, "sum": 1.0}))
    assert (found.outcome.bytes_up, found.outcome.bytes_p2p) == (30.0, 10.0)
    assert found.outcome.phase_seconds == {"train": 7.0, "sum": 1.0}
    assert found.outcome.lost == {"a": "x"}
