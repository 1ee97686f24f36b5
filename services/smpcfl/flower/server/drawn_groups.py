"""The aggregator's view of the draw: which groups there are now, and what it remembers of each."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from pathlib import Path

import grpc.aio

from ...base.ledger_file import open_ledger
from ...base.log_events import LogEvent, about
from ...base.state import State
from ...base.waiting import Reminder
from ...net.certificates import Identity
from ...net.directory import Directory
from ...net.kept_draw import KeptDraw
from ...protocol.draw import Group
from ...protocol.errors import RemoteError
from ...protocol.ledger import Ledger

log = logging.getLogger("smpcfl.flower")


class DrawnGroups:
    """Of the deployment whose registry is at the address `registry`. `state`: the aggregator's folder."""

    def __init__(self, own: Identity, registry: str, state: Path) -> None:
        self._own = own
        self._registry = registry
        self._state = State(state)
        self._kept = KeptDraw(self._state.draw, own.ca)
        self._ledgers: dict[tuple[int, int], Ledger] = {}

    def now(self) -> tuple[Group, ...]:
        """Those of the newest draw; none where the deployment is too small for groups.

        Waits for the registry where it has not drawn yet.
        """
        reminder = Reminder()
        while True:
            needed = asyncio.run(self._look())
            groups = self._kept.groups
            if groups and time.time() < groups[0].expires:
                return groups
            if not needed:
                return ()
            if reminder.is_due():
                log.info(
                    "waiting for the registry to draw groups: it does so once no more peers come",
                    extra=about(LogEvent.WAITING),
                )
            time.sleep(1.0)

    async def _look(self) -> bool:
        """Asks the registry; True if the deployment is large enough for groups."""
        directory = Directory(self._own, self._registry, self._state.roster)
        try:
            await directory.lookup()
            if directory.draw not in (0, self._kept.number):
                reply = await directory.ask_draw()
                if self._kept.take(reply):
                    self._forget_others()
                    log.info(
                        "draw %d: %d groups",
                        self._kept.number,
                        len(self._kept.groups),
                        extra=about(LogEvent.DRAWN),
                    )
        except grpc.aio.AioRpcError as error:
            log.warning(
                "no registry (%s): using the draw kept from before",
                error.details(),
                extra=about(LogEvent.REGISTRY_AWAY),
            )
        except (RemoteError, OSError) as error:
            log.error(
                "the registry's draw is not gone by: %s", error, extra=about(LogEvent.NOT_DRAWN)
            )
        finally:
            await directory.close()
        return directory.needs_draw

    def ledger(self, group: Group) -> Ledger:
        """What was done in this group. StorageError if its file is damaged."""
        key = (group.draw, group.group)
        if key not in self._ledgers:
            folder = self._state.ledgers(group.draw)
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._ledgers[key] = open_ledger(folder / f"{group.group}.sqlite")
        return self._ledgers[key]

    def _forget_others(self) -> None:
        """Ledgers of older draws: no peer takes part in their groups any more."""
        self._ledgers.clear()
        kept = self._state.ledgers(self._kept.number)
        for folder in kept.parent.glob("*"):
            if folder != kept:
                shutil.rmtree(folder, ignore_errors=True)
