"""The draw: a deployment cut into disjoint groups, by chance, and what the registry signs of each group.

Each group is a cohort of its own, so a round costs a peer the same in a deployment of any size. Who is in
which group has to be nobody's choice, above all not the aggregator's (docs/protocol.md, section 14).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property

from .encoding import DIGEST_BYTES, canonical, digest
from .errors import LocalError, Reason, RemoteError
from .ticket import MAX_COHORT, MAX_PEER_ID

GROUP_SIZE = 64
"""Peers of the smallest group, unless the registry's operator says otherwise; none is twice as large."""
LEAST_GROUP_SIZE = 5
LARGEST_GROUP_SIZE = MAX_COHORT // 2
LIFE_S = 86_400
LEFT_OUT = 20
"""One of so many peers on the roster may be left out of a draw, which is 5 %: whoever keeps honest peers out
raises the share of colluders."""


@dataclass(frozen=True)
class Group:
    """What the registry says of one group. Times are Unix seconds, fingerprints and digests have 32 bytes.

    RemoteError(MALFORMED) for what no draw gives.
    """

    ca: bytes
    """SHA-256 of the CA's certificate: in which deployment."""
    draw: int
    """Number of the draw: a later one has a higher number."""
    issued: int
    expires: int
    roster: int
    """How many peers the registry knew."""
    left_out: int
    """How many of these are in no group."""
    cohort_digest: bytes
    """Of all groups' members together."""
    group: int
    """From 1 on."""
    groups: int
    members: tuple[tuple[str, bytes], ...]
    """Peer ids, ascending, each with the SHA-256 of its public key."""

    def __post_init__(self) -> None:
        checks = {
            "ca": len(self.ca) == DIGEST_BYTES,
            "number": 0 < self.draw < 2**63,
            "time": 0 < self.issued < self.expires <= self.issued + LIFE_S,
            "roster": 0 <= self.left_out < self.roster < 2**32,
            "cohort_digest": len(self.cohort_digest) == DIGEST_BYTES,
            "group": 1 <= self.group <= self.groups,
            "members": 3 <= len(self.members) <= MAX_COHORT
            and list(self.cohort) == sorted(set(self.cohort))
            and all(
                0 < len(peer) <= MAX_PEER_ID and len(key) == DIGEST_BYTES
                for peer, key in self.members
            ),
            # All groups are of one size, within a peer: nobody is put into a small one.
            "size": self.groups > 0
            and self.drawn // self.groups <= len(self.members) <= -(-self.drawn // self.groups),
        }
        for name, good in checks.items():
            if not good:
                raise RemoteError(Reason.MALFORMED, f"draw: {name}", found=f"group {self.group}")

    @property
    def drawn(self) -> int:
        """How many peers are in all groups together."""
        return self.roster - self.left_out

    @cached_property
    def cohort(self) -> tuple[str, ...]:
        """The members' ids, as they stand in a ticket."""
        return tuple(peer for peer, _ in self.members)

    @cached_property
    def signed_bytes(self) -> bytes:
        *values, members = (getattr(self, item.name) for item in fields(self))
        return canonical("draw", *values, [list(member) for member in members])


@dataclass(frozen=True)
class SignedGroup:
    """`signature`: by the deployment's CA."""

    group: Group
    signature: bytes


def may_be_cut(peers: int, group_size: int) -> bool:
    """Whether so many peers are enough for two groups."""
    return peers >= 2 * group_size


def cut(
    peers: Collection[str], group_size: int, entropy: Callable[[int], bytes]
) -> list[tuple[str, ...]]:
    """Disjoint groups of `group_size` to 2 * group_size − 1 ids each, ascending; in a random order.

    `entropy` gives so many bytes from a cryptographic generator; every division is as likely. LocalError for
    fewer than 2 * group_size peers.
    """
    if not may_be_cut(len(peers), group_size):
        raise LocalError(f"{len(peers)} peers are too few for two groups of {group_size}")
    order = sorted(peers)
    for last in range(len(order) - 1, 0, -1):  # Fisher and Yates
        other = _below(last + 1, entropy)
        order[last], order[other] = order[other], order[last]
    count = len(order) // group_size
    return [tuple(sorted(order[first::count])) for first in range(count)]


def _below(bound: int, entropy: Callable[[int], bytes]) -> int:
    """Uniform in [0, bound): what is beyond the last whole multiple is drawn again."""
    whole = 2**64 // bound * bound
    while (found := int.from_bytes(entropy(8), "big")) >= whole:
        pass
    return found % bound


def to_draw(
    enrolled: Collection[str], living: Collection[str], entropy: Callable[[int], bytes]
) -> frozenset[str]:
    """Who takes part in a draw: all `enrolled` but those that are away, of whom a few are left out.

    If more are away than one in LEFT_OUT of all, chance says who of them is in a group nevertheless: there
    they are lost neighbours. Otherwise whoever cuts honest peers off while the registry draws would raise the
    share of the others.
    """
    away = sorted(set(enrolled) - set(living))
    most = len(enrolled) // LEFT_OUT
    while len(away) > most:
        del away[_below(len(away), entropy)]
    return frozenset(enrolled) - set(away)


def make_groups(
    enrolled: Mapping[str, bytes],
    living: Collection[str],
    *,
    ca: bytes,
    draw: int,
    issued: int,
    group_size: int,
    entropy: Callable[[int], bytes],
) -> list[Group]:
    """All groups of one draw. `enrolled`: the fingerprint of each peer's key; the rest as in `Group`.

    LocalError if there are too few peers for two groups.
    """
    drawn = to_draw(enrolled, living, entropy)
    cohorts = cut(drawn, group_size, entropy)
    return [
        Group(
            ca=ca,
            draw=draw,
            issued=issued,
            expires=issued + LIFE_S,
            roster=len(enrolled),
            left_out=len(enrolled) - len(drawn),
            cohort_digest=cohort_digest(cohorts),
            group=number,
            groups=len(cohorts),
            members=tuple((peer, enrolled[peer]) for peer in cohort),
        )
        for number, cohort in enumerate(cohorts, 1)
    ]


def cohort_digest(cohorts: Sequence[Sequence[str]]) -> bytes:
    """Names all who are in a draw, 32 bytes: the same in the statements of all its groups."""
    return digest("draw cohort", sorted(peer for cohort in cohorts for peer in cohort))
