"""Rounds that start when the test says; keeps tickets, survivors and the model after each round."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

import smpcfl.flower.server.secure_round as secure_round
from smpcfl.flower import SecureStrategy
from smpcfl.protocol.aggregator_round import AggregatorRound
from smpcfl.protocol.ticket import Deadlines

from . import stage

app = ServerApp()
SEED = 1


class StagedRound(AggregatorRound):
    """The aggregator's side of a round, which can be held before and during unmask."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        ticket = self.ticket
        self._number = ticket.round
        kept = {
            key: getattr(ticket, key)
            for key in ("cohort", "threshold", "width", "clip", "weight_cap", "min_survivors")
        }
        stage.write(f"log/{self._number}-ticket.json", json.dumps(kept).encode())

    def fix_survivors(self, within: Collection[str] | None = None) -> list[str]:
        stage.reach(f"{self._number}-fixing")
        survivors = super().fix_survivors(within)
        stage.write(f"log/{self._number}-survivors.json", json.dumps(survivors).encode())
        return survivors

    def answer(self, peer: str, message: Any) -> None:
        super().answer(peer, message)
        stage.reach(f"{self._number}-answer")


class StagedGrid:
    """Flower's grid, which can be held before a round's messages leave, and tells whose reply has come."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self.round = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._grid, name)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        sent = list(messages)
        if any(message.content.array_records for message in sent):
            stage.reach(f"{self.round}-leaving")
        return self._grid.push_messages(sent)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        replies = list(self._grid.pull_messages(message_ids))
        for reply in replies:
            stage.reach(f"{self.round}-arrived-{reply.metadata.src_node_id}")
        return replies


@app.main()
def main(grid: Grid, context: Context) -> None:
    secure_round.AggregatorRound = StagedRound  # type: ignore[misc]
    plan = json.loads((stage.FOLDER / "plan.json").read_text())
    rounds = int(context.run_config["num-rounds"])
    staged = StagedGrid(grid)

    def between(number: int, arrays: ArrayRecord) -> MetricRecord:
        """After a round: keeps the model, and waits until the test lets the next one start."""
        model = {name: array.numpy() for name, array in arrays.items()}
        stage.save(f"log/{number}-model.npz", **model)
        go = stage.FOLDER / "go" / str(number + 1)
        while number < rounds and not go.exists():
            if (stage.FOLDER / "wanted").exists():
                assert strategy._grid is not None
                present = strategy._grid._lineup.present()
                stage.write("present.json", json.dumps(list(present.values())).encode())
            time.sleep(0.1)
        staged.round = number + 1
        return MetricRecord({})

    strategy = SecureStrategy(
        FedAvg(fraction_evaluate=0.0, min_train_nodes=3, min_available_nodes=3),
        min_peers=3,
        seed=SEED,
        grace_s=plan["grace_s"],
        deadlines=Deadlines(**plan["deadlines_ms"]),
    )
    rng = np.random.default_rng(SEED)
    initial = {"w": rng.normal(size=(40, 25)).astype(np.float32), "b": rng.normal(size=25)}
    strategy.start(
        staged,  # type: ignore[arg-type]
        ArrayRecord({name: Array(array) for name, array in initial.items()}),
        num_rounds=rounds,
        evaluate_fn=between,
    )
