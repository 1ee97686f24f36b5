"""What the vectors start from: keys, entropy and tickets, the same in every file."""

from __future__ import annotations

import hashlib
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec

from smpcfl.protocol import trailer
from smpcfl.protocol.digests import config_digest
from smpcfl.protocol.quantise import model_digest
from smpcfl.protocol.ring import Layout, RingVector
from smpcfl.protocol.signing import AGGREGATOR, Signer, signer
from smpcfl.protocol.summed_metrics import MetricNames, Value, Values
from smpcfl.protocol.ticket import EVALUATE, Deadlines, SignedTicket, Ticket
from vectors.files import Json, floats, number, numbers

COHORT = ("alpha", "bravo", "charlie", "delta", "echo")


def some(label: str, count: int) -> bytes:
    """Bytes that look random, and are always the same."""
    return hashlib.shake_256(f"smpcfl vectors/{label}".encode()).digest(count)


class Tape:
    """Entropy that is read off a byte string, from its start, and must be used up."""

    def __init__(self, raw: bytes) -> None:
        self.left = raw

    def __call__(self, count: int) -> bytes:
        drawn, self.left = self.left[:count], self.left[count:]
        assert len(drawn) == count, "more entropy is drawn than was given"
        return drawn


def scalar(name: str) -> int:
    """The private key that `name` signs with."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest(), "big") >> 1


def key(name: str) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(scalar(name), ec.SECP256R1())


def signer_of(name: str) -> Signer:
    return signer(key(name), deterministic=True)


def model() -> dict[str, np.ndarray]:
    return {
        "layer.weight": np.array([[0.5, -1.25], [0.0, 3.0]], "<f4"),
        "layer.steps": np.array([7, -2], "<i8"),
        "layer.bias": np.array([0.125], "<f8"),
    }


CONTENT = some("content digest", 32)
APP = some("app bundle", 32)
METRICS = MetricNames((("accuracy", 0), ("loss", 0)))


def five(**changes: Any) -> SignedTicket:
    """The ticket of a round of five peers, signed by the aggregator."""
    ticket = Ticket(
        run=2**63 + 5,
        round=3,
        serial=1_700_000_000_000,
        nonce=some("nonce", 32),
        mode="seeded",
        cohort=COHORT,
        threshold=3,
        width=16,
        clip=0.5,
        weight_cap=100,
        body=5,
        wide=2 + METRICS.words + trailer.LENGTH,
        min_survivors=3,
        deadlines=Deadlines(),
        model_digest=model_digest(model()),
        config_digest=config_digest(CONTENT, APP),
        metrics=METRICS,
    )
    return signed(replace(ticket, **changes))


def three() -> SignedTicket:
    """The ticket of an `additive` round of three."""
    return five(
        mode="additive",
        cohort=COHORT[:3],
        threshold=2,
        min_survivors=3,
        width=32,
        serial=1_700_000_000_001,
    )


def part() -> SignedTicket:
    """The ticket of a round that trains three arrays of a model."""
    return five(arrays=("a/weight", "lora_a", "lora_ü"))


def evaluation(metrics: MetricNames = METRICS) -> SignedTicket:
    """The ticket of an evaluation by the same five of the same model."""
    return five(
        task=EVALUATE,
        metrics=metrics,
        body=0,
        wide=metrics.words + trailer.LENGTH,
        serial=1_700_000_000_002,
    )


def signed(ticket: Ticket, name: str = AGGREGATOR) -> SignedTicket:
    return SignedTicket(ticket, signer_of(name)(ticket.signed_bytes))


def arrays_json(arrays: dict[str, np.ndarray]) -> list[Json]:
    return [
        {
            "name": name,
            "dtype": array.dtype.str,
            "shape": list(array.shape),
            "bytes": array.tobytes().hex(),
        }
        for name, array in arrays.items()
    ]


def metrics_json(metrics: MetricNames) -> Json:
    return {"named": [list(item) for item in metrics.named], "open": metrics.open}


def values_json(values: Values) -> Json:
    """What an app reports, or means of it, by name."""

    def plain(value: Value) -> Any:
        return floats(value) if isinstance(value, list) else float(value).hex()

    return {name: plain(value) for name, value in values.items()}


def layout_json(layout: Layout) -> Json:
    return {"width": layout.width, "body": layout.body, "wide": layout.wide}


def vector_json(vector: RingVector) -> Json:
    return {
        "body": numbers(vector.body),
        "wide": numbers(vector.wide),
        "bytes": vector.tobytes().hex(),
    }


def message_json(item: Any) -> Any:
    """Fields of a message by name; bytes as hex, and integers as in all files."""
    if is_dataclass(item):
        return {part.name: message_json(getattr(item, part.name)) for part in fields(item)}
    if isinstance(item, bytes):
        return bytes.hex(item)
    if isinstance(item, tuple):
        return [message_json(part) for part in item]
    if isinstance(item, float):
        return item.hex()
    return number(item) if type(item) is int else item
