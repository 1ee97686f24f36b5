"""One root for all hashes of a dealer's shares, so that an announcement has the same size at any degree.

Leaf h stands for holder h's two shares; it is the hash of the two share hashes, so that one share can
be shown against the root without the other (RFC 6962, section 2.1, has the same leaf/node separation).
Nodes are 16 bytes: a second share under an honest dealer's root takes 2^128 hashes, and two shares under
a root of one's own, 2^64, get their dealer no more than shares of another secret, which name it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache

from .encoding import DIGEST_BYTES, before_bytes, canonical, digest

NODE_BYTES = 16

_EMPTY = digest("merkle empty")[:NODE_BYTES]
# What is hashed is as `digest` has it. The part that is always the same is written once: a round has tens of
# thousands of nodes.
_BEFORE_HASH, _BEFORE_NODE = before_bytes(DIGEST_BYTES), before_bytes(NODE_BYTES)
_LEAF = canonical("merkle leaf") + _BEFORE_HASH
_INNER = canonical("merkle node") + _BEFORE_NODE


def _hash(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return _hash(_INNER, left, _BEFORE_NODE, right)[:NODE_BYTES]


def share_hash(kind: str, holder: int, share: bytes) -> bytes:
    """Hash of one share; `kind` is "self" (of b_i) or "pair" (of sk_i), `holder` counts from 1."""
    return _hash(_before_share(kind, holder, len(share)), share)


@cache
def _before_share(kind: str, holder: int, length: int) -> bytes:
    return canonical("share", kind, holder) + before_bytes(length)


def leaf(self_hash: bytes, pair_hash: bytes) -> bytes:
    """Of two hashes of 32 bytes."""
    return _hash(_LEAF, self_hash, _BEFORE_HASH, pair_hash)[:NODE_BYTES]


def depth(leaves: int) -> int:
    """Length of a path in a tree of `leaves` leaves."""
    return max(0, (leaves - 1).bit_length())


def root_and_paths(leaves: Sequence[bytes]) -> tuple[bytes, list[tuple[bytes, ...]]]:
    """The root, and for each leaf the siblings on its way up."""
    paths: list[list[bytes]] = [[] for _ in leaves]
    level = [*leaves] + [_EMPTY] * ((1 << depth(len(leaves))) - len(leaves))
    height = 0
    while len(level) > 1:
        for index, path in enumerate(paths):
            path.append(level[(index >> height) ^ 1])
        level = [_node(level[i], level[i + 1]) for i in range(0, len(level), 2)]
        height += 1
    return level[0], [tuple(path) for path in paths]


def root_from(node: bytes, index: int, path: Sequence[bytes]) -> bytes:
    """The root that `node` at `index` (from 0) leads to along `path`."""
    for sibling in path:
        node = _node(sibling, node) if index & 1 else _node(node, sibling)
        index >>= 1
    return node
