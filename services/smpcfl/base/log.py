"""How a service writes its log: one line an event, as text or as JSON, and not endlessly the same."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TextIO

from .log_events import LogEvent, about, fields_of
from .repeats import Repeats

log = logging.getLogger("smpcfl")
TEXT, JSON = "text", "json"
FORMATS = (TEXT, JSON)
MEMBERS = {
    "time": "RFC 3339, in UTC, with milliseconds",
    "level": "`DEBUG`, `INFO`, `WARNING`, `ERROR` or `CRITICAL`",
    "logger": "which part of the program wrote it",
    "service": "`registry`, `peer`, `aggregator`; `superlink` and `supernode` for what we add to Flower's",
    "mode": "what the deployment runs",
    "event": "one of the events below; absent where the event has no name",
    "message": "what the text format shows",
    "traceback": "of a fault of the program; absent otherwise",
}
"""What an object of the JSON format has besides log_events.FIELDS."""


class TextFormatter(logging.Formatter):
    """Time, level and message, then those fields that the message does not name."""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        unsaid = [
            f"  {name}={value}"
            for name, value in fields_of(record).items()
            if name != "run" and not _says(message, name, value)
        ]
        if record.exc_info:
            message += "\n" + self.formatException(record.exc_info)
        at = self.formatTime(record, "%H:%M:%S")
        return f"{at} {record.levelname:<7} {one_line(message)}{''.join(unsaid)}"


class JsonFormatter(logging.Formatter):
    """One object; `always`: what each of them has."""

    def __init__(self, always: Mapping[str, str]) -> None:
        super().__init__()
        self._always = always

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        members: dict[str, object] = {
            "time": at.replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            **self._always,
            **({"event": record.event} if hasattr(record, "event") else {}),
            "message": record.getMessage(),
            **fields_of(record),
        }
        if record.exc_info:
            members["traceback"] = self.formatException(record.exc_info)
        return json.dumps(members)


class Lines(logging.StreamHandler[TextIO]):
    """To standard error. What repeats too often is counted, and told with the next line or at the end."""

    def __init__(
        self, formatter: logging.Formatter, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._repeats = Repeats(clock)

    def emit(self, record: logging.LogRecord) -> None:
        for shown in self._repeats.take(record):
            super().emit(shown)

    def close(self) -> None:
        for shown in self._repeats.rest():
            super().emit(shown)
        super().close()


def one_line(text: str) -> str:
    """It may quote what another party sent, which must neither begin a line nor drive the terminal."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return "".join(c if c.isprintable() else "?" for c in " | ".join(lines))


def _says(message: str, name: str, value: int | str) -> bool:
    if name == "round":
        return re.search(rf"\bround +{value}\b", message) is not None
    return str(value) in message


def not_delivered(request: object, client_address: tuple[str, int]) -> None:
    """`handle_error` of the small HTTP servers: their own one prints a traceback for whoever hangs up."""
    error = sys.exception()
    extra = about(LogEvent.NOT_DELIVERED)
    if isinstance(error, OSError):
        log.info("%s did not wait for its page: %s", client_address[0], error, extra=extra)
    else:
        log.exception("no page for %s", client_address[0], extra=extra)


def configure(service: str, mode: str, log_format: str, logger: str = "") -> None:
    """Of this process; `logger`: only that one and what is below it, where the others are somebody else's."""
    always = {"service": service, "mode": mode}
    handler = Lines(JsonFormatter(always) if log_format == JSON else TextFormatter())
    configured = logging.getLogger(logger)
    for before in configured.handlers[:]:
        configured.removeHandler(before)
        before.close()
    configured.addHandler(handler)
    configured.setLevel(logging.DEBUG if os.environ.get("DEBUG") else logging.INFO)
    if logger:
        configured.propagate = False
        return
    for noisy in (
        "asyncio",
        "zeroconf",
        "grpc",
        "httpx",
    ):  # else each packet and each call is a line
        logging.getLogger(noisy).setLevel(logging.WARNING)
