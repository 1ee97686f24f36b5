"""What `smpcfl doctor` finds, and what its checks know of the service that they look at."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from cryptography import x509

from smpc.v1 import registry_pb2 as pb

from ..base.config import Settings
from ..net.certificates import Identity, Role
from ..net.reachability import Trouble


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"


@dataclass(frozen=True)
class Finding:
    """`remedy` is empty if there is nothing to do."""

    check: str
    level: Level
    found: str
    remedy: str = ""

    def to_members(self) -> dict[str, str | None]:
        """For JSON."""
        return {
            "check": self.check,
            "level": self.level.value,
            "found": self.found,
            "remedy": self.remedy or None,
        }


def ok(check: str, found: str) -> Finding:
    return Finding(check, Level.OK, found)


def warning(check: str, found: str, remedy: str) -> Finding:
    return Finding(check, Level.WARNING, found, remedy)


def fault(check: str, found: str, remedy: str) -> Finding:
    return Finding(check, Level.FAULT, found, remedy)


def of_trouble(check: str, trouble: Trouble, level: Level = Level.FAULT) -> Finding:
    return Finding(check, level, trouble.found, trouble.remedy)


@dataclass
class Patient:
    """The service, and what the checks before have found out for those that come after.

    `token`: from the environment. `ca`: of the join folder, if it is good. `own`: the kept identity, if it
    is. `runs`: whether the service itself is seen at its own port. `roster`: the registry's, if it answered.
    """

    settings: Settings
    role: Role
    token: str = field(default="", repr=False)
    ca: x509.Certificate | None = None
    own: Identity | None = None
    runs: bool = False
    roster: pb.Roster | None = None
