"""What a peer has of one neighbour in a `seeded` round, and what it knows that the neighbour has."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from . import failures
from .announcement import Dealt
from .messages import Agreement, ShownShare


@dataclass
class Neighbour:
    """From nothing known to all agreed. None and False: not yet."""

    dealt: Dealt | None = None
    """Its shares for this peer, checked against its announcement, the first one that came."""
    failure_share: int | None = field(default=None, repr=False)
    """Of its r_i (`failures`): came with the shares, or with its ready."""
    delivered: int = 0
    """Number of this peer's newest receipt that went to it, in a reply or in a call that it answered."""
    heard: bool = False
    """A ready came from it, or the reply to one."""
    says: bool = False
    """It said that the pair counts for it."""
    told: bool = False
    """It answered a call in which this peer said so."""
    calls: int = 0
    """In which it said so. A second one means that it has not heard the reply to the first."""
    replied: bool = False
    """This peer said so as well, in the reply to the last of these calls."""
    closed: bool = False
    """Whom it counts is final."""
    warned: set[int] = field(default_factory=set)
    """The dealers of whose second announcement it has the proof."""
    asked: int = 0
    """In how many waves it was asked for receipts that this peer lacks."""
    agreement: Agreement | None = None
    """The first one that came, whoever relayed it, perhaps before this peer agreed itself."""
    agreed_to: bool = False
    """It has this peer's agreement."""

    @property
    def knows(self) -> bool:
        """It has heard that the pair counts for this peer: in a call that it answered, or in a reply.

        Where replies get lost, only a call that is answered will do, or its last word that the pair counts.
        """
        return self.told or (self.replied and self.calls == 1) or (self.closed and self.says)

    def shown(self, kind: str, dealer: int, holder: int) -> ShownShare:
        """The "self" or the "pair" share that it dealt. `holder`: whose share it is, counted from 1."""
        assert self.dealt is not None
        self_hash, pair_hash = self.dealt.hashes(holder)
        if kind == "self":
            return ShownShare(dealer, self.dealt.self_share, pair_hash, self.dealt.path)
        return ShownShare(dealer, self.dealt.pair_share, self_hash, self.dealt.path)


class Neighbours(defaultdict[int, Neighbour]):
    """By cohort index; empty for whoever nothing is known of."""

    def __init__(self) -> None:
        super().__init__(Neighbour)

    @property
    def held(self) -> dict[int, Dealt]:
        """The shares, by dealer."""
        found = {index: item.dealt for index, item in self.items()}
        return {index: item for index, item in found.items() if item is not None}

    def agreed(self, survivors_digest: bytes) -> list[Agreement]:
        """The agreements to this survivor set."""
        found = [item.agreement for item in self.values()]
        return [item for item in found if item and item.survivors_digest == survivors_digest]

    def failure_sum(self, survivors: Iterable[int], own: Mapping[int, int]) -> int | None:
        """Of the shares of r_i over the survivors, `own` among them; None where one is missing."""
        total = 0
        for index in survivors:
            share = own[index] if index in own else self[index].failure_share
            if share is None:
                return None
            total += share
        return total % failures.PRIME

    def forget_secrets(self) -> None:
        for item in self.values():
            item.dealt = item.failure_share = None


def failure_sums(agreements: Iterable[Agreement]) -> dict[int, int]:
    """By who agreed, of those who could count."""
    found = {item.peer: item.failure_sum for item in agreements}
    return {peer: total for peer, total in found.items() if total is not None}
