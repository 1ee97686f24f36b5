"""Training in a thread of its own, so that one without end does not hold up the reply."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def in_worker(work: Callable[[], T], seconds: float) -> tuple[T | None, str]:
    """What `work` returned within `seconds`, or None and why there is nothing.

    A thread cannot be ended: one that is late goes on until the process does.
    """
    found: queue.SimpleQueue[tuple[T | None, str]] = queue.SimpleQueue()

    def run() -> None:
        try:
            found.put((work(), ""))
        except BaseException as error:  # an app that calls sys.exit() has failed like any other
            found.put((None, f"{type(error).__name__}: {error}"))

    threading.Thread(target=run, name="training", daemon=True).start()
    try:
        return found.get(timeout=max(seconds, 0.0))
    except queue.Empty:
        return None, "it outlasted the ticket's training deadline"
