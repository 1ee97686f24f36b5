"""One unambiguous byte string for what is signed and hashed, independent of the wire's encoding."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from functools import cache
from typing import TypeAlias, Union

Item: TypeAlias = Union[int, float, bytes, str, "Sequence[Item]"]

VERSION = 2
"""Of tickets, and of all that is signed, hashed and masked in a round."""
LASTING_VERSION = 2
"""Of what services of two versions exchange outside of rounds, and what ledgers keep."""
_LASTING = frozenset(
    {
        *("node", "node key", "draw", "draw cohort"),
        *("model", "content", "config", "configuration"),
    }
)
DIGEST_BYTES = 32


class Encoded(bytes):
    """An item that is encoded already, as it occurs often."""


def canonical(domain: str, *items: Item) -> bytes:
    """Tagged, length-prefixed encoding of `items` under a domain that no other use shares."""
    return b"".join([_prefix(domain), *map(_encode, items)])


def digest(domain: str, *items: Item) -> bytes:
    """SHA-256 of `canonical`, 32 bytes."""
    return hashlib.sha256(canonical(domain, *items)).digest()


def encoded(item: Item) -> Encoded:
    return Encoded(_encode(item))


def before_bytes(length: int) -> bytes:
    """What stands before an item of so many bytes."""
    return b"b" + length.to_bytes(8, "big")


def before_list(length: int) -> bytes:
    """What stands before a list of so many items."""
    return b"l" + length.to_bytes(8, "big")


@cache
def _prefix(domain: str) -> bytes:
    version = LASTING_VERSION if domain in _LASTING else VERSION
    return _encode(f"smpcfl/v{version}/{domain}")


def _encode(item: Item) -> bytes:
    # The most frequent kinds first: a round encodes tens of thousands of items.
    if isinstance(item, bytes):
        if isinstance(item, Encoded):
            return item
        return before_bytes(len(item)) + item
    if isinstance(item, int):
        return b"i" + item.to_bytes(9, "big", signed=True)
    if isinstance(item, str):
        raw = item.encode()
        return b"s" + len(raw).to_bytes(8, "big") + raw
    if isinstance(item, float):
        return b"f" + struct.pack(">d", item)
    return before_list(len(item)) + b"".join(map(_encode, item))
