"""What a refusal says: one line of bounded length, with what was compared."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from smpcfl.protocol.errors import Reason, RemoteError


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "bad_share"),
        ({"detail": "not what was announced"}, "bad_share: not what was announced"),
        ({"peer": "bravo"}, "bad_share (peer bravo)"),
        ({"expected": 3}, "bad_share; expected 3, found None"),
        ({"found": 0}, "bad_share; expected None, found 0"),
        (
            {"detail": "d", "peer": "bravo", "expected": ">= 3", "found": 2},
            "bad_share: d (peer bravo); expected >= 3, found 2",
        ),
        ({"detail": "one\nline\x1b"}, "bad_share: one?line?"),
    ],
)
def test_it_says_what_is_known(arguments: dict[str, Any], text: str) -> None:
    assert str(RemoteError(Reason.BAD_SHARE, **arguments)) == text


def test_it_is_cut_after_300_characters() -> None:
    assert str(RemoteError(Reason.BAD_SHARE, "x" * 1000)) == "bad_share: " + "x" * 289


def test_it_passes_from_process_to_process() -> None:
    error = RemoteError(Reason.BAD_SHARE, "d", peer="bravo", expected=1, found=(2, 3))
    found = pickle.loads(pickle.dumps(error))
    assert (str(found), vars(found)) == (str(error), vars(error))
