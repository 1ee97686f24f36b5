"""Checkpoints of a training run: the global model after each round, and what the next round needs.

One file a round: a line that names the format, 8 bytes with the length of a JSON header, the header,
the arrays' bytes in the header's order, and SHA-256 over all of it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..base.files import write_private
from ..base.log_events import LogEvent, about
from ..protocol.errors import LocalError
from ..protocol.quantise import contents_of

log = logging.getLogger("smpcfl.checkpoint")
_MAGIC = b"smpcfl checkpoint 1\n"
_LENGTH = struct.Struct(">Q")
_HASH_BYTES = 32
_NAME = re.compile(r"run-(\d+)-round-(\d+)")
_KEPT = 2


class Damaged(LocalError):
    """A checkpoint that is not what was written."""


@dataclass(frozen=True)
class Checkpoint:
    """A run as it stands after `round`, which is 0 before the first one."""

    run: int
    round: int
    rounds: int
    """How many there are to be."""
    clip: float
    """Of the next ticket, as is the weight cap."""
    weight_cap: int
    setup: dict[str, Any]
    """What else decides the rounds to come: mode, ring width, seed, digest of the configuration."""
    record: str
    """The round's RoundRecord as JSON; empty for round 0."""
    arrays: Mapping[str, npt.NDArray[Any]] = field(repr=False)
    first_try: int = 1
    """The round that first trained on this model, or is to."""
    metrics: Mapping[str, Sequence[tuple[str, int]]] = field(default_factory=dict)
    """Names and lengths of the metrics that are summed, by task, once they are known."""
    strategy: bytes = field(default=b"", repr=False)
    """What the strategy remembers."""

    def parts(self) -> list[bytes | memoryview]:
        """What a file of it holds, one after the other; the arrays are no copies."""
        members = {
            name: value for name, value in vars(self).items() if name not in ("arrays", "strategy")
        }
        members["arrays"] = [[name, a.dtype.str, a.shape] for name, a in self.arrays.items()]
        header = json.dumps(members, allow_nan=False).encode()
        parts: list[bytes | memoryview] = [_MAGIC, _LENGTH.pack(len(header)), header]
        parts += map(contents_of, self.arrays.values())
        parts.append(self.strategy)
        whole = hashlib.sha256()
        for part in parts:
            whole.update(part)
        return [*parts, whole.digest()]

    @classmethod
    def decode(cls, data: bytes) -> Checkpoint:
        """What `parts` gave, joined. Damaged, saying how, for anything else."""
        if not data:
            raise Damaged("it is empty")
        if not data.startswith(_MAGIC):
            raise Damaged("it does not start like a checkpoint")
        body = memoryview(data)[:-_HASH_BYTES]
        if hashlib.sha256(body).digest() != data[-_HASH_BYTES:]:
            raise Damaged("its checksum is wrong: it was cut short or changed")
        try:
            return cls._read(body)
        except Exception as error:
            raise Damaged(f"its checksum is right, but not what it holds: {error!r}") from error

    @classmethod
    def _read(cls, body: memoryview) -> Checkpoint:
        start = len(_MAGIC) + _LENGTH.size
        (length,) = _LENGTH.unpack_from(body, len(_MAGIC))
        members = json.loads(bytes(body[start : start + length]))
        start += length
        arrays = {}
        for name, dtype, shape in members["arrays"]:
            count = int(np.prod(shape, dtype=np.int64))
            array = np.frombuffer(body, dtype, count, start).reshape(shape).copy()
            arrays[name] = array
            start += array.nbytes
        known = {item.name for item in fields(cls)}  # a later version may have written more
        members = {name: value for name, value in members.items() if name in known}
        return cls(**{**members, "arrays": arrays, "strategy": bytes(body[start:])})

    def differences(self, setup: Mapping[str, Any]) -> list[str]:
        """One text for each thing in `setup` that is not as it was."""
        return [
            f"{name} was {self.setup.get(name)}, now {value}"
            for name, value in setup.items()
            if self.setup.get(name) != value
        ]


class Checkpoints:
    """A folder of them. Keeps the last two of the run that is written, and the last one of each other.

    One process writes at a time. A file appears whole or not at all; what a crash left of one that
    was being written is removed with the next.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, checkpoint: Checkpoint) -> None:
        """On disk when it returns. OSError if it cannot be written; those before it stay."""
        for torn in self.folder.glob(".*"):
            torn.unlink(missing_ok=True)
        write_private(self._path(checkpoint.run, checkpoint.round), *checkpoint.parts())
        for run, rounds in self._found().items():
            for number in rounds[: -_KEPT if run == checkpoint.run else -1]:
                self._path(run, number).unlink(missing_ok=True)

    def newest_round(self, run: int) -> int | None:
        """Of the files there are, without a look inside."""
        return max(self._found().get(run, ()), default=None)

    def latest(self, run: int) -> Checkpoint | None:
        """The newest that is whole; logs each one that is not."""
        damaged = False
        for number in reversed(self._found().get(run, ())):
            path = self._path(run, number)
            try:
                checkpoint = Checkpoint.decode(path.read_bytes())
                if (checkpoint.run, checkpoint.round) != (run, number):
                    raise Damaged(f"it is of run {checkpoint.run}, round {checkpoint.round}")
            except (Damaged, OSError) as error:
                log.error(
                    "checkpoint %s is damaged and left out: %s",
                    path,
                    error,
                    extra=about(LogEvent.NO_CHECKPOINT, run=run),
                )
                damaged = True
                continue
            if damaged:
                log.warning(
                    "the checkpoint of round %d, the one before, is used",
                    number,
                    extra=about(LogEvent.NO_CHECKPOINT, run=run),
                )
            return checkpoint
        if damaged:
            log.error(
                "no whole checkpoint of run %d is left: it starts from its first round",
                run,
                extra=about(LogEvent.NO_CHECKPOINT, run=run),
            )
        return None

    def _path(self, run: int, number: int) -> Path:
        return self.folder / f"run-{run}-round-{number}"

    def _found(self) -> dict[int, list[int]]:
        """Round numbers by run, ascending."""
        found: dict[int, list[int]] = {}
        for path in self.folder.glob("run-*"):
            if match := _NAME.fullmatch(path.name):
                found.setdefault(int(match[1]), []).append(int(match[2]))
        return {run: sorted(numbers) for run, numbers in found.items()}
