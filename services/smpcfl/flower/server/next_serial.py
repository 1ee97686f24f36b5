"""Ticket serials: never the same twice, whatever is restarted or restored."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from ...base.files import read_number, write_private
from ...base.log_events import LogEvent, about

log = logging.getLogger("smpcfl.aggregator")


def next_serial(path: Path) -> int:
    """max(last + 1, Unix milliseconds), on disk before it is returned.

    With a full disk it is the clock's alone, and the log has an error: peers refuse what is not above
    the highest that they accepted, so the worst is a void round.
    """
    last = read_number(path)
    serial = max(last + 1, int(time.time() * 1000))
    try:
        write_private(path, str(serial).encode())
    except OSError as error:
        log.error(
            "the serial %d is not kept in %s: %s; make room",
            serial,
            path,
            error.strerror,
            extra=about(LogEvent.STORAGE_FAILED),
        )
    return serial
