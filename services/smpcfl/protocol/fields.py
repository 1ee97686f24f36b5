"""What fields of several messages have to be. RemoteError(MALFORMED), which names the field, for others."""

from __future__ import annotations

from collections.abc import Sequence

from . import failures
from .errors import Reason, RemoteError
from .merkle import NODE_BYTES

MAX_PATH = 16


def check_length(value: bytes, expected: int, name: str) -> None:
    if len(value) != expected:
        raise RemoteError(Reason.MALFORMED, name, expected=f"{expected} bytes", found=len(value))


def check_index(value: int, name: str) -> None:
    if not 0 <= value < 2**16:
        raise RemoteError(Reason.MALFORMED, name, found=value)


def check_ascending(places: Sequence[int], name: str) -> None:
    if list(places) != sorted(set(places)):
        raise RemoteError(Reason.MALFORMED, f"{name} not ascending")
    for place in (*places[:1], *places[-1:]):
        check_index(place, name)


def check_path(value: Sequence[bytes]) -> None:
    if len(value) > MAX_PATH:
        raise RemoteError(Reason.MALFORMED, "path", expected=f"<= {MAX_PATH}", found=len(value))
    for node in value:
        check_length(node, NODE_BYTES, "path")


def check_element(value: int, name: str) -> None:
    if not 0 <= value < failures.PRIME:
        raise RemoteError(Reason.MALFORMED, name, expected="an element of the field")
