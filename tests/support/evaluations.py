"""Rounds of metrics as an aggregator asks for them, of real agents and mods, around an app of a user's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import Context, Message, MetricRecord, RecordDict

from smpcfl.protocol.errors import Reason
from smpcfl.protocol.ring import WIDE, Elements, RingVector
from smpcfl.protocol.summed_metrics import MetricNames, Value
from smpcfl.protocol.ticket import EVALUATE, TRAIN
from smpcfl.protocol.trailer import LENGTH, Trailer, decode
from support.apps import App, Arrays, Called, Mods, step

METRICS = MetricNames((("correct", 0), ("loss", 0)))


@dataclass
class Evaluates(App):
    """It reports the loss and the correct predictions of the model that it was given, in both tasks."""

    kinds: list[str] = field(default_factory=list)

    def __call__(self, message: Message, context: Context) -> Message:
        self.kinds.append(message.metadata.message_type)
        if message.metadata.message_type == TRAIN:
            return super().__call__(message, context)
        self.runs += 1
        if self.endless:
            self.over.wait()
        arrays = message.content.array_records["arrays"]
        _, loss, correct = step({n: a.numpy() for n, a in arrays.items()}, self.x, self.y)
        metrics = {"num-examples": len(self.y), "loss": loss, "correct": correct}
        return Message(RecordDict({"metrics": MetricRecord(metrics)}), reply_to=message)


@dataclass(frozen=True)
class Summed:
    """What one sum holds: its words of metrics, and the counters."""

    words: Elements
    counted: Trailer

    @classmethod
    def of(cls, total: RingVector, survivors: int) -> Summed:
        return cls(total.wide[:-LENGTH][-METRICS.words :], decode(total.wide[-LENGTH:], survivors))

    def means(self) -> dict[str, Value]:
        return METRICS.decode(self.words, self.counted.reporters, self.counted.examples)

    def times_examples(self, name: str) -> float:
        """Σ value · n_i."""
        mean = self.means()[name]
        assert isinstance(mean, float)
        return mean * self.counted.examples

    def less(self, other: Summed) -> Summed:
        """What is left when `other` is taken off."""
        pairs = zip(vars(self.counted).items(), vars(other.counted).values(), strict=True)
        counted = Trailer(**{name: mine - theirs for (name, mine), theirs in pairs})
        return Summed((self.words - other.words).astype(WIDE), counted)


class Asks:
    """One aggregator that asks all peers of a network, with their apps."""

    def __init__(self, mods: Mods, apps: Mapping[str, Any]) -> None:
        self.mods, self.net, self.apps = mods, mods.net, apps
        self.called: dict[str, Called] = {}

    async def sum(
        self, task: str, model: Arrays, members: Sequence[int] = (), **changes: Any
    ) -> Summed | list[str]:
        """The sum over `members` (cohort indices), all if none are given; or why peers refuse it.

        With `members` the aggregator shows each peer this very survivor set, all having uploaded.
        """
        signed = self.mods.ticket(model, **{"task": task, "metrics": METRICS, **changes})
        self.called = await self.mods.train(
            signed, self.apps, lambda name: self.mods.message(signed, model, message_type=task)
        )
        refused = [item.refusal for item in self.called.values() if item.refusal]
        if refused:
            return refused
        chosen = tuple(members) or tuple(range(len(self.net.cohort)))
        loot, refusals = await self.net.show(dict.fromkeys(range(len(self.net.cohort)), chosen))
        total = loot.sum_of(chosen)
        return (
            [reason.value for reason in refusals]
            if total is None
            else Summed.of(total, len(chosen))
        )

    async def train(self, model: Arrays, members: Sequence[int] = ()) -> Summed:
        found = await self.sum(TRAIN, model, members)
        assert isinstance(found, Summed)
        return found

    async def evaluate(
        self, model: Arrays, members: Sequence[int] = (), **changes: Any
    ) -> Summed | list[str]:
        return await self.sum(EVALUATE, model, members, **changes)


def reasons(found: Summed | list[str]) -> list[str]:
    """The names of the refusals."""
    assert isinstance(found, list)
    return [text.split(":")[0] for text in found]


def refused_by_all(found: Summed | list[str], reason: Reason, peers: int) -> bool:
    return reasons(found) == [reason.value] * peers


def data_of(rng: np.random.Generator, count: int, inputs: int) -> tuple[Any, Any]:
    """Records of dark and bright pixels, and labels from 1 to 9: of class 0 there is none."""
    x = rng.integers(0, 2, (count, inputs)).astype(np.float32)
    return x, rng.integers(1, 10, count)
