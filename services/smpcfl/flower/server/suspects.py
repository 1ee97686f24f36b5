"""Peers whose groups keep ending void while others complete: named, and never left out.

One member can void its group's part of a round, and the protocol does not say who. Within one draw its whole
group looks alike. But groups are drawn anew, and whoever stays with the void ones is soon alone. To leave a
peer out for that would be a way to evict a victim, and to subtract.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...base.files import write_private
from ...base.log_events import LogEvent, about
from ...protocol.draw import Group
from ...reports.record import GroupRecord

log = logging.getLogger("smpcfl.flower")
_DRAWS = 16  # that are remembered
_ROUNDS = 20  # of each group and draw that are named, the last ones; all are counted


@dataclass(frozen=True)
class Suspect:
    """`rounds`: the last ones, as run and round, in which its group was void and another was not."""

    peer: str
    draws: int
    rounds: tuple[tuple[int, int], ...]


@dataclass
class _Seen:
    """One draw: its groups, and of each the rounds that it took part in while some group completed.

    `rounds`: the last void ones of each group, as run and round.
    """

    draw: int
    members: list[list[str]]
    void: list[int] = field(default_factory=list)
    complete: list[int] = field(default_factory=list)
    rounds: list[list[tuple[int, int]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.void = self.void or [0] * len(self.members)
        self.complete = self.complete or [0] * len(self.members)
        self.rounds = [[(run, number) for run, number in found] for found in self.rounds]
        self.rounds = self.rounds or [[] for _ in self.members]

    def add_void(self, index: int, run: int, number: int) -> None:
        self.void[index] += 1
        self.rounds[index] = [*self.rounds[index], (run, number)][-_ROUNDS:]

    def took_part(self, index: int) -> bool:
        return self.void[index] + self.complete[index] > 0

    def is_bad(self, index: int) -> bool:
        """Whether this group was void more often than not."""
        return self.void[index] > self.complete[index]


def _read(kept: dict[str, Any]) -> _Seen:
    """TypeError or ValueError for what was not written here."""
    seen = _Seen(**kept)
    groups = len(seen.members)
    if {len(seen.void), len(seen.complete), len(seen.rounds)} != {groups}:
        raise ValueError(f"a draw of {groups} groups")
    numbers = [
        seen.draw,
        *seen.void,
        *seen.complete,
        *(n for found in seen.rounds for n in sum(found, ())),
    ]
    if not all(type(number) is int for number in numbers):
        raise TypeError("a number that is none")
    if not all(isinstance(peer, str) for members in seen.members for peer in members):
        raise TypeError("a peer's name that is no text")
    return seen


class Suspects:
    """Kept in `path`, or in memory alone without one.

    A file that cannot be read is begun anew, as nothing depends on it.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._draws: list[_Seen] = []
        self._named: set[str] = set()
        if path is None:
            return
        try:
            self._draws = [_read(item) for item in json.loads(path.read_bytes())]
        except FileNotFoundError:
            pass
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            log.warning(
                "%s is unreadable and begun anew: %s",
                path,
                error,
                extra=about(LogEvent.STORAGE_FAILED),
            )

    def take(
        self, groups: Sequence[Group], run: int, number: int, records: Sequence[GroupRecord]
    ) -> dict[str, tuple[tuple[int, int], ...]]:
        """After a round, of which `records` are those of the groups that took part: who is suspected now.

        `groups`: all of the draw. By peer, the rounds, as run and round, in which its group was void and
        another was not. Names each of them once in the log.
        """
        if any(record.outcome == "complete" for record in records):
            seen = self._of(groups)
            for record in records:
                if record.outcome == "complete":
                    seen.complete[record.group - 1] += 1
                else:
                    seen.add_void(record.group - 1, run, number)
            self._keep()
        found = self.named()
        for suspect in found:
            if suspect.peer not in self._named:
                log.warning(
                    "%s is suspected: in %d draws its groups ended void while others completed, in the rounds"
                    " %s. Nobody is left out for that; look at its log, or revoke it",
                    suspect.peer,
                    suspect.draws,
                    ", ".join(f"{round_} of run {run_}" for run_, round_ in suspect.rounds),
                    extra=about(LogEvent.SUSPECTED, peer=suspect.peer),
                )
        self._named = {suspect.peer for suspect in found}
        return {suspect.peer: suspect.rounds for suspect in found}

    def named(self) -> list[Suspect]:
        """Whose groups were bad in each of its last draws, in so many that chance alone names nobody."""
        history: dict[str, list[tuple[bool, list[tuple[int, int]]]]] = {}
        for seen in self._draws:
            for index, members in enumerate(seen.members):
                if seen.took_part(index):
                    for peer in members:
                        history.setdefault(peer, []).append(
                            (seen.is_bad(index), seen.rounds[index])
                        )
        found = []
        for peer, items in sorted(history.items()):
            bad = []
            for is_bad, rounds in reversed(items):
                if not is_bad:
                    break
                bad.append(rounds)
            if len(bad) >= self._needed():
                rounds = [one for part in reversed(bad) for one in part]
                found.append(Suspect(peer, len(bad), tuple(rounds)))
        return found

    def _needed(self) -> int:
        """So many draws in a row: of n peers in G groups, n / G^draws share one's groups in all of them."""
        members = self._draws[-1].members if self._draws else []
        if len(members) < 2:
            return _DRAWS + 1
        return max(2, math.ceil(math.log(sum(map(len, members))) / math.log(len(members))))

    def _of(self, groups: Sequence[Group]) -> _Seen:
        draw = groups[0].draw
        if not self._draws or self._draws[-1].draw != draw:
            ordered = sorted(groups, key=lambda group: group.group)
            self._draws.append(_Seen(draw, [list(group.cohort) for group in ordered]))
            del self._draws[:-_DRAWS]
        return self._draws[-1]

    def _keep(self) -> None:
        if self._path is None:
            return
        try:
            content = json.dumps([asdict(seen) for seen in self._draws])
            write_private(self._path, content.encode())
        except OSError as error:
            log.warning(
                "cannot write %s: %s", self._path, error, extra=about(LogEvent.STORAGE_FAILED)
            )
