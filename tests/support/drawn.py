"""Draws as a test wants them: who is in which group is given, the rest is as the registry makes it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from smpcfl.net import certificates
from smpcfl.protocol.draw import LIFE_S, Group, cohort_digest
from smpcfl.protocol.grouping import Drawn
from support.network import key_of

CA = bytes([9]) * 32
ISSUED = 10**9
NOW_S = ISSUED + 60


def fingerprint_of(peer: str) -> bytes:
    """Of the key that peers in memory have."""
    return bytes.fromhex(certificates.fingerprint(key_of(peer).public_key()))


def groups_of(cohorts: Sequence[Sequence[str]], draw: int = 7, **changes: Any) -> list[Group]:
    """The statements of one draw with these cohorts; `changes` replace fields of all."""
    everyone = sum(map(len, cohorts))
    fields = {
        "ca": CA,
        "draw": draw,
        "issued": ISSUED,
        "expires": ISSUED + LIFE_S,
        "roster": everyone,
        "left_out": 0,
        "cohort_digest": cohort_digest(cohorts),
        "groups": len(cohorts),
        **changes,
    }
    return [
        Group(
            **fields,
            group=number,
            members=tuple((peer, fingerprint_of(peer)) for peer in sorted(cohort)),
        )
        for number, cohort in enumerate(cohorts, 1)
    ]


def drawn(groups: Sequence[Group]) -> Drawn:
    """What a party knows that was told all of them."""
    return Drawn(groups[0].draw, tuple(groups))


def seeded_entropy(seed: object) -> Any:
    """Reproducible bytes, faster than those of `support.network`: a draw takes one call for each peer."""
    stream, used = hashlib.shake_256(str(seed).encode()).digest(1 << 18), 0

    def draw(count: int) -> bytes:
        nonlocal used
        used += count
        assert used <= len(stream)
        return stream[used - count : used]

    return draw
