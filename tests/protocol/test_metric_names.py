"""Names of metrics as they come out of a sum, where one peer may have put any text."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from smpcfl.protocol.errors import LocalError, Reason, RemoteError
from smpcfl.protocol.summed_metrics import MetricNames, Values

OPEN, PEERS = MetricNames(open=True), 5
HONEST: Values = {"accuracy": 0.5, "loss": [0.25, 4.0]}


def summed(text: bytes) -> np.ndarray:
    """Four honest peers, and a fifth that knows their names and makes the sum five times `text`."""
    words = OPEN.encode(HONEST, 1, PEERS)
    padded = text.ljust(1020)
    pieces = [hashlib.sha256(padded).digest()[:6]]
    pieces += [padded[at : at + 6] for at in range(0, 1020, 6)]
    wanted = np.array([int.from_bytes(piece, "little") for piece in pieces], np.uint64)
    total = 5 * words
    total[-len(wanted) :] = 5 * wanted
    return total


def test_the_true_names_are_read() -> None:
    assert OPEN.decode(summed(b'[["accuracy",0],["loss",2]]'), PEERS, PEERS) == HONEST


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"no JSON",
        b"{}",
        b"17",
        b"null",
        b"[" * 1020,
        b'[["a",Infinity]]',
        b'[["a",NaN]]',
        b'[["a",1e400]]',
        b'[["a",0.0]]',
        b'[["a",true]]',
        b'[["a",-1]]',
        b'[["a",65]]',
        b'[["a",0],["a",0]]',
        b'[["b",0],["a",0]]',
        b'[["a", 0]]',
        b'["a1"]',
        b'{"a1":0}',
        b"[[17,0]]",
        b'[["",0]]',
        b'[["a",0,0]]',
        b'[["\\ud800",0]]',
        b'[["\xc3\xa9",0]]',
    ],
    ids=lambda text: repr(text)[:20],
)
def test_any_other_text_is_that_names_differ(text: bytes) -> None:
    with pytest.raises(LocalError, match="different names"):
        OPEN.decode(summed(text), PEERS, PEERS)


def test_a_hash_that_is_not_the_texts() -> None:
    total = summed(b'[["accuracy",0],["loss",2]]')
    total[-171] += np.uint64(5)
    with pytest.raises(LocalError, match="different names"):
        OPEN.decode(total, PEERS, PEERS)


def test_a_name_that_cannot_be_signed_is_in_no_ticket() -> None:
    with pytest.raises(RemoteError) as error:
        MetricNames((("\ud800", 0),))
    assert error.value.reason is Reason.MALFORMED


@pytest.mark.parametrize("huge", [10**400, -(10**400)], ids=["above", "below"])
def test_an_integer_beyond_all_floats_is_no_number(huge: int) -> None:
    for metrics in (OPEN, MetricNames((("seen", 0),))):
        with pytest.raises(LocalError, match=r"metric 'seen' is inf"):
            metrics.encode({"seen": huge}, 10, PEERS)
