"""Which services speak another protocol than this one, by what the registry's roster tells of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import DecodeError

from smpc.v1 import registry_pb2 as pb

from .. import __version__
from ..protocol.encoding import VERSION
from ..protocol.errors import clean

_NAMED = 8


@dataclass(frozen=True)
class Spoken:
    """What a service says of itself. `protocol` is the version of its tickets, 0 where it does not tell.

    Who does not tell is taken to speak the same: it refuses a ticket by itself.
    """

    software: str
    protocol: int

    @property
    def is_other(self) -> bool:
        return self.protocol not in (0, VERSION)

    def __str__(self) -> str:
        protocol = f", protocol {self.protocol}" if self.protocol else ""
        return f"smpcfl {clean(self.software) or 'of unknown version'}{protocol}"


OWN = Spoken(__version__, VERSION)


def other_peers(roster: pb.Roster) -> dict[str, Spoken]:
    """Those that speak another protocol, by peer id."""
    told = {entry.peer: Spoken(entry.software, entry.protocol) for entry in roster.entries}
    return {peer: spoken for peer, spoken in told.items() if spoken.is_other}


def other_aggregator(roster: pb.Roster) -> Spoken | None:
    """The aggregator, if it speaks another protocol."""
    spoken = Spoken(roster.aggregator_software, roster.aggregator_protocol)
    return spoken if spoken.is_other else None


def kept_others(path: Path) -> dict[str, Spoken]:
    """`other_peers` of the roster that a service keeps at `path`; nobody where there is none."""
    try:
        return other_peers(pb.Roster.FromString(path.read_bytes()))
    except (OSError, DecodeError):  # the service that keeps it says so
        return {}


def named(others: Mapping[str, Spoken]) -> str:
    """For a line of the log: a few of them."""
    found = [f"{clean(peer)} ({spoken})" for peer, spoken in sorted(others.items())]
    more = [f"{len(found) - _NAMED} more"] if len(found) > _NAMED else []
    return ", ".join([*found[:_NAMED], *more])
