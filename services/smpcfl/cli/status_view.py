"""What `smpcfl status` has found, as a screen, as JSON, and as lines of what changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from ..net import versions
from ..net.versions import Spoken
from ..reports.record import RoundRecord, group_lines, line

_SHORT = 16  # digits of a fingerprint, where all 64 have no room
_FRAME = 40  # columns of the table for everything but names, addresses and fingerprints


@dataclass(frozen=True)
class RosterRow:
    """A peer of the roster. No `fingerprint`: its certificate does not count, `problem` says why."""

    peer: str
    address: str
    data_slice: int
    by_mdns: bool
    fingerprint: str
    problem: str = ""
    spoken: Spoken = Spoken("", 0)

    def to_members(self) -> dict[str, Any]:
        return {
            "peer": self.peer,
            "address": self.address,
            "data_slice": self.data_slice,
            "seen": ["registry", "mdns"] if self.by_mdns else ["registry"],
            "fingerprint": self.fingerprint or None,
            "problem": self.problem or None,
            **_members(self.spoken),
        }


@dataclass(frozen=True)
class Status:
    """As the service `name` sees it. `last`: of the rounds, which the aggregator alone has.

    `guarantee`: in force in the last round; if there is none, `no_guarantee` says why.
    """

    role: str
    name: str
    registry: str
    roster: tuple[RosterRow, ...]
    last: RoundRecord | None
    guarantee: str
    no_guarantee: str
    aggregator: Spoken = Spoken("", 0)

    def to_members(self) -> dict[str, Any]:
        """For JSON; docs/observability.md has the names, which stay."""
        return {
            "role": self.role,
            "name": self.name,
            "registry": self.registry,
            "roster": [row.to_members() for row in self.roster],
            "last_round": self.last.to_members() if self.last else None,
            "guarantee": self.guarantee or None,
            "no_guarantee": self.no_guarantee or None,
            "aggregator": _members(self.aggregator),
        }

    @property
    def others(self) -> dict[str, Spoken]:
        """Who speaks another protocol than the aggregator, which tells; rounds go on without them."""
        own = self.aggregator.protocol
        told = {row.peer: row.spoken for row in self.roster}
        return {peer: one for peer, one in told.items() if own and one.protocol not in (0, own)}


def _members(spoken: Spoken) -> dict[str, Any]:
    return {"software": spoken.software or None, "protocol": spoken.protocol or None}


def table(status: Status, width: int) -> Table:
    """The roster, in at most `width` columns."""
    taken = max((len(row.peer + row.address) for row in status.roster), default=0)
    short = taken + 64 + _FRAME > width
    made = Table("peer", "address", "slice", "mDNS", "key's fingerprint", title="roster")
    for column in made.columns:
        column.overflow = "fold"
    for row in status.roster:
        key = row.fingerprint or row.problem
        if short and row.fingerprint:
            key = f"{key[:_SHORT]}…"
        seen = "yes" if row.by_mdns else "no"
        # As Text: what a peer calls itself is no markup.
        cells = (row.peer, row.address, str(row.data_slice), seen, key)
        made.add_row(*map(Text, cells))
    return made


def below(status: Status) -> list[str]:
    """The lines below the table."""
    found = []
    if status.role == "aggregator":
        found += _round(status.last) if status.last else ["no round yet"]
    return [*found, _in_force(status), *_left_out(status)]


def changes(before: Status | None, now: Status) -> Iterator[str]:
    """A line for each; without `before` all is new."""
    known = {row.peer: row for row in before.roster} if before else {}
    here = {row.peer: row for row in now.roster}
    for peer, row in here.items():
        if row != known.get(peer):
            seen = "" if row.by_mdns else ", not seen by mDNS"
            wrong = f": {row.problem}" if row.problem else ""
            yield f"{peer} is at {row.address}, data slice {row.data_slice}{seen}{wrong}"
    for peer in known.keys() - here.keys():
        yield f"{peer} has left the roster"
    if now.last and (before is None or now.last != before.last):
        yield from _round(now.last)
    if before is None or _in_force(now) != _in_force(before):
        yield _in_force(now)
    if before is None or _left_out(now) != _left_out(before):
        yield from _left_out(now)


def _round(record: RoundRecord) -> list[str]:
    return [line(record), *group_lines(record)]


def _left_out(status: Status) -> list[str]:
    if not status.others:
        return []
    return [
        f"left out, as they speak another protocol than the aggregator ({status.aggregator}):"
        f" {versions.named(status.others)}"
    ]


def _in_force(status: Status) -> str:
    return f"in force: {status.guarantee}" if status.guarantee else status.no_guarantee
