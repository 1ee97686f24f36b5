"""What is kept of each round: one as the aggregator saw it, as a line of JSON, and as a line to read."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from .units import byte_size, decimal, seconds


@dataclass(frozen=True, kw_only=True)
class GroupRecord:
    """One group's part of a round."""

    group: int
    """Its number in the draw."""
    outcome: Literal["complete", "void"]
    reason: str = ""
    cohort: int
    survivors: int


@dataclass(frozen=True, kw_only=True)
class RoundRecord:
    """One round of one mode. Bytes are the mean of a peer of the cohort, as counted on the wire."""

    run: int
    round: int
    mode: str
    outcome: Literal["complete", "void"]
    reason: str = ""
    """Why the round is void; empty when it is complete."""
    cohort: int
    survivors: int
    contributors: int = 0
    """Survivors whose training succeeded, as the sum shows."""
    withstood: int | None = None
    """Peers that may collude with the aggregator and still learn the sum only; None in `normal`."""
    dropouts: int
    accuracy: float | None
    """In [0, 1], of the global model after this round, on held-out data. None: not evaluated."""
    loss: float | None
    """Of the global model after this round, on held-out data."""
    train_loss: float | None
    """Mean over the examples of the survivors, from the trailer."""
    bytes_up: float
    """To the aggregator, on all channels."""
    bytes_down: float
    """From the aggregator, on all channels."""
    bytes_p2p: float
    seconds: float
    phase_seconds: dict[str, float]
    draw: int = 0
    """Number of the draw that the groups come from; 0 where the cohort was one."""
    groups: tuple[GroupRecord, ...] = ()
    suspected: dict[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    """Peers whose groups keep ending void, each with the rounds, as run and round."""
    unmask_up: float = 0.0
    """Of `bytes_up`, what went over the unmask channel; the rest is Flower's."""
    unmask_down: float = 0.0
    plain_bytes: float = 0.0
    """What the update of one peer would take in the clear; 0 if that is not known."""
    flower_seconds: float | None = None
    """What a message through Flower took in this run although there was nothing to do: polls, and the start
    of a process. None: not measured."""
    lost: dict[str, str] = field(default_factory=dict)
    """Peers of the cohort that are not among the survivors, each with what is known of why."""

    def to_json(self) -> str:
        """One JSON object on one line. JSON has no NaN: an accuracy or a loss like that is null."""
        return json.dumps(self.to_members(), allow_nan=False)

    def to_members(self) -> dict[str, Any]:
        """By name. An accuracy or a loss that is NaN or infinite is None."""
        members = asdict(self)
        for key in ("accuracy", "loss", "train_loss"):
            members[key] = finite(members[key])
        return members

    @classmethod
    def from_json(cls, text: str, *, newer: bool = False) -> RoundRecord:
        """The inverse of `to_json`. ValueError, naming the key: unknown, missing or wrong type.

        `newer`: a later version may have written it, and what only that one knows is left out.
        """
        try:
            members = json.loads(text)
        except RecursionError:
            raise ValueError("a round record is not nested like that") from None
        if not isinstance(members, dict):
            raise ValueError("a round record must be a JSON object")
        if newer:
            members = {key: value for key, value in members.items() if key in _READERS}
        return cls.from_members(members)

    @classmethod
    def from_members(cls, members: Mapping[str, object]) -> RoundRecord:
        """The inverse of `to_members`. ValueError, naming the key: unknown, missing or wrong type."""
        if unknown := sorted(members.keys() - _READERS.keys()):
            raise ValueError(f"round record: unknown key {unknown[0]!r}")
        if missing := sorted(_NEEDED - members.keys()):
            raise ValueError(f"round record: missing key {missing[0]!r}")
        read: dict[str, Any] = {}
        for key, value in members.items():
            try:
                read[key] = _READERS[key](value)
            except TypeError as error:
                raise ValueError(f"round record: {key!r} must be {error}") from None
        return cls(**read)


def line(record: RoundRecord, rounds: int | None = None) -> str:
    """The one line for a round, which fits 80 columns if it is complete; `rounds`: how many there are to be.

    Sent is what one peer sends, to the aggregator and to other peers.
    """
    number = str(record.round)
    if rounds is not None:
        number = f"{record.round:>{len(str(rounds))}}/{rounds}"
    parts = [f"round {number}", f"{record.mode:<8}"]
    if record.outcome == "void":
        parts.append(f"void: {_clean(record.reason)}")
    parts.append(f"survivors {record.survivors}/{record.cohort}")
    if record.outcome == "complete" and record.contributors < record.survivors:
        parts.append(f"training failed on {record.survivors - record.contributors}")
    if record.groups:
        complete = sum(group.outcome == "complete" for group in record.groups)
        parts.append(f"groups {complete}/{len(record.groups)}")
    if record.suspected:
        parts.append(f"suspected {len(record.suspected)}")
    if record.accuracy is not None or record.loss is None:
        parts.append(f"accuracy {decimal(record.accuracy)}")
    else:
        parts.append(f"loss {decimal(record.loss)}")
    parts += [f"sent {byte_size(record.bytes_up + record.bytes_p2p)}", seconds(record.seconds)]
    return "  ".join(parts)


def group_lines(record: RoundRecord) -> list[str]:
    """What a line has no room for, a line each: the groups that are void, and who is suspected."""
    found = [
        f"draw {record.draw}, group {group.group}: void: {_clean(group.reason)}"
        f"  survivors {group.survivors}/{group.cohort}"
        for group in record.groups
        if group.outcome == "void"
    ]
    for peer, rounds in record.suspected.items():
        named = ", ".join(f"{round_} of run {run}" for run, round_ in rounds)
        found.append(f"suspected: {peer}, its groups ended void while others completed: {named}")
    return found


def _clean(reason: str) -> str:
    """A reason may quote what a peer sent; it must not break the line or drive the terminal."""
    text = "".join(c if c.isprintable() else " " for c in reason)
    return " ".join(text.split()) or "no reason given"


def finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


# One reader for each type; a TypeError says what was expected.


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a string")
    return value


def _outcome(value: object) -> str:
    if value not in ("complete", "void"):
        raise TypeError("'complete' or 'void'")
    return str(value)


def _natural(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError("a whole number from 0 up")
    return value


def _natural_or_none(value: object) -> int | None:
    return None if value is None else _natural(value)


def _number(value: object) -> float:
    # The bound keeps out NaN, infinity (1e999 reads as that) and integers that no float can hold.
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < 1e300:
        raise TypeError("a finite number")
    return float(value)


def _amount(value: object) -> float:
    if (number := _number(value)) < 0:
        raise TypeError("a number from 0 up")
    return number


def _number_or_none(value: object) -> float | None:
    return None if value is None else _number(value)


def _phases(value: object) -> dict[str, float]:
    if not isinstance(value, dict):
        raise TypeError("an object of numbers")
    return {phase: _amount(seconds) for phase, seconds in value.items()}


def _groups(value: object) -> tuple[GroupRecord, ...]:
    if not isinstance(value, list | tuple):
        raise TypeError("a list of groups")
    return tuple(_group(item) for item in value)


def _group(value: object) -> GroupRecord:
    readers = {name: _READERS[name] for name in ("outcome", "reason", "cohort", "survivors")}
    readers["group"] = _natural
    if (
        not isinstance(value, dict)
        or not readers.keys() - {"reason"} <= value.keys() <= readers.keys()
    ):
        raise TypeError(f"a list of groups, each with {', '.join(sorted(readers))}")
    read: dict[str, Any] = {key: readers[key](item) for key, item in value.items()}
    return GroupRecord(**read)


def _suspected(value: object) -> dict[str, tuple[tuple[int, int], ...]]:
    if not isinstance(value, dict):
        raise TypeError("an object of lists of rounds")
    found = {}
    for peer, rounds in value.items():
        if not isinstance(rounds, list | tuple):
            raise TypeError("an object of lists of rounds")
        pairs = []
        for item in rounds:
            if not isinstance(item, list | tuple) or len(item) != 2:
                raise TypeError("an object of lists of rounds, each a run and a round")
            pairs.append((_natural(item[0]), _natural(item[1])))
        found[str(peer)] = tuple(pairs)
    return found


def _texts(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise TypeError("an object of strings")
    return {str(key): _text(item) for key, item in value.items()}


# What records had from the first version on.
_NEEDED = {
    "run",
    "round",
    "mode",
    "outcome",
    "cohort",
    "survivors",
    "dropouts",
    "accuracy",
    "loss",
    "train_loss",
    "bytes_up",
    "bytes_down",
    "bytes_p2p",
    "seconds",
    "phase_seconds",
}
_READERS: dict[str, Callable[[object], object]] = {
    "run": _natural,
    "round": _natural,
    "mode": _text,
    "outcome": _outcome,
    "reason": _text,
    "cohort": _natural,
    "survivors": _natural,
    "contributors": _natural,
    "withstood": _natural_or_none,
    "dropouts": _natural,
    "accuracy": _number_or_none,
    "loss": _number_or_none,
    "train_loss": _number_or_none,
    "bytes_up": _amount,
    "bytes_down": _amount,
    "bytes_p2p": _amount,
    "seconds": _amount,
    "phase_seconds": _phases,
    "draw": _natural,
    "groups": _groups,
    "suspected": _suspected,
    "unmask_up": _amount,
    "unmask_down": _amount,
    "plain_bytes": _amount,
    "flower_seconds": _number_or_none,
    "lost": _texts,
}
