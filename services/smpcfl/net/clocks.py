"""How far this machine's clock is from another's, and when that is worth a line."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from ..base.log_events import LogEvent, about

log = logging.getLogger("smpcfl")
WARNING_S = 5.0  # by more Flower takes no SuperNode's word
ERROR_S = 120.0  # certificates are dated back by five minutes, and deadlines are of minutes
REMEDY = "run NTP on both machines"


@dataclass(frozen=True)
class ClockDifference:
    """This clock is `off_s` ahead of the other one (behind it if negative), give or take `unsure_s`."""

    off_s: float
    unsure_s: float

    def exceeds(self, seconds: float) -> bool:
        """For certain."""
        return abs(self.off_s) - self.unsure_s > seconds

    def __str__(self) -> str:
        return f"{abs(self.off_s):.1f} s {'ahead' if self.off_s > 0 else 'behind'}"


def difference(theirs: float, asked: float, answered: float) -> ClockDifference:
    """Theirs, as told in an answer, with our clock before and after; all in Unix seconds.

    It was told somewhere in between: half of that time is the doubt.
    """
    return ClockDifference((asked + answered) / 2 - theirs, max(0.0, answered - asked) / 2)


def of_date(date: str, asked: float, answered: float) -> ClockDifference | None:
    """As `difference`, of an HTTP header `date`, which is in whole seconds; None if it is none."""
    try:
        theirs = parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None
    found = difference(theirs + 0.5, asked, answered)
    return ClockDifference(found.off_s, found.unsure_s + 0.5)


class ClockWatch:
    """Logs once that the clock of `other` differs, and again only if it was right in between, or is worse."""

    def __init__(self, other: str) -> None:
        self._other = other
        self._said_s = 0.0

    def compare(self, theirs_ms: int, asked: float, answered: float | None = None) -> None:
        """Nothing for 0, which is what another party of an older version tells."""
        if not theirs_ms:
            return
        found = difference(theirs_ms / 1000, asked, time.time() if answered is None else answered)
        above = next((limit for limit in (ERROR_S, WARNING_S) if found.exceeds(limit)), 0.0)
        if above > self._said_s:
            log.log(
                logging.ERROR if above == ERROR_S else logging.WARNING,
                "this clock is %s, compared to that of %s: %s",
                found,
                self._other,
                REMEDY,
                extra=about(LogEvent.CLOCK_OFF),
            )
        self._said_s = above
