"""Training in a thread of its own, so that one without end does not hold up the reply."""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
import traceback
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_LONGEST = 300  # characters of what an error says
_LONGEST_TRACEBACK = 20_000


def in_worker(work: Callable[[], T], seconds: float) -> tuple[T | None, str]:
    """What `work` returned within `seconds`, or None and why there is nothing, as bounded ASCII.

    A thread cannot be ended: one that is late goes on until the process does.
    """
    found: queue.SimpleQueue[tuple[T | None, str]] = queue.SimpleQueue()

    def run() -> None:
        try:
            found.put((work(), ""))
        except BaseException as error:  # an app that calls sys.exit() has failed like any other
            _show(error)
            found.put((None, _text(error)))

    threading.Thread(target=run, name="training", daemon=True).start()
    try:
        return found.get(timeout=max(seconds, 0.0))
    except queue.Empty:
        return None, "it outlasted the ticket's training deadline"


def _show(error: BaseException) -> None:
    """In this peer's own log, which is all of its reason that anybody sees."""
    with contextlib.suppress(Exception):
        text = "".join(traceback.format_exception(error))
        print(text[-_LONGEST_TRACEBACK:], file=sys.stderr, flush=True)


def _text(error: BaseException) -> str:
    """Of one form, whatever the app raised: what does not fit into a message would show that it failed."""
    kind = type(error).__name__
    try:
        text = f"{kind}: {error}"
    except Exception:  # its own __str__ fails
        text = kind
    return bounded(text)


def bounded(text: str) -> str:
    return text[:_LONGEST].encode("ascii", "backslashreplace").decode()
