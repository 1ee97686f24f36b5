"""How much is fuzzed, and what is said when an input breaks something.

FUZZ: number of inputs, shared out among the targets by what one costs. FUZZ_SEED: where the inputs begin.
The same seed gives the same mutations; live rounds have secrets of their own, and so other messages.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from smpcfl.protocol.errors import ProtocolError

from .mutate import mutant, shrunk

TOTAL = int(os.environ.get("FUZZ", "20000"))
SEED = os.environ.get("FUZZ_SEED", "0")
# Of a thousand inputs, for the services; the parsers have the rest.
SEEDED_ROUND, ADDITIVE_ROUND, LOCAL_AGENT, REGISTRY, ENROLMENT, RECORDS = 150, 20, 20, 10, 2, 3
SERVICES = SEEDED_ROUND + ADDITIVE_ROUND + LOCAL_AGENT + REGISTRY + ENROLMENT + RECORDS
HANG_S = 5.0  # of processor time, for one input


@dataclass(frozen=True)
class Target:
    """`run` takes one input, and may raise a ProtocolError. `share` of all inputs, in thousandths."""

    name: str
    share: float
    run: Callable[[bytes], object] = field(repr=False)
    seeds: Sequence[bytes] = field(repr=False)
    fields: bool = False  # the seeds are protobuf messages

    @property
    def inputs(self) -> int:
        return inputs(self.share)


def inputs(share: float) -> int:
    """Rounded up, so that the shares add up to at least TOTAL."""
    return -int(-TOTAL * share // 1000)


def rng_of(name: str) -> random.Random:
    return random.Random(f"{SEED}/{name}")


def fuzz(target: Target) -> int:
    """The number of inputs. AssertionError with seed and shrunk input for one that breaks it."""
    rng = rng_of(target.name)
    for seed in target.seeds:
        if complaint := complaint_of(target.run, seed):
            fail(target.name, 0, seed, complaint, target.run)
    for count in range(target.inputs):
        data = mutant(rng, target.seeds, fields=target.fields)
        if complaint := complaint_of(target.run, data):
            fail(target.name, count, data, complaint, target.run)
    return target.inputs


def complaint_of(run: Callable[[bytes], object], data: bytes) -> str:
    """What is wrong with how `run` takes this input; empty if nothing is."""
    began = time.process_time()
    try:
        run(data)
    except ProtocolError:
        pass
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    seconds = time.process_time() - began
    return f"it took {seconds:.1f} s" if seconds > HANG_S else ""


def fail(
    name: str, count: int, data: bytes, complaint: str, run: Callable[[bytes], object]
) -> None:
    kind = complaint.split(":")[0]
    small = shrunk(data, lambda shorter: complaint_of(run, shorter).split(":")[0] == kind)
    raise AssertionError(
        f"{name}: {complaint_of(run, small) or complaint}\nFUZZ_SEED={SEED}, input {count}, shrunk to"
        f" {len(small)} of {len(data)} bytes:\n{small.hex()}"
    )
