"""Messages to nodes and their replies, so that none of them can hold up the others."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator

import httpx
from flwr.app import Message
from flwr.serverapp import Grid

_POLL_S = 0.2
_LOOK_S = 1.0
_POLLS_PER_S = 12.0  # of all threads together: they are what keeps the SuperLink busy
_TRIES = 10  # of a pull that ends with an error of the SuperLink's: its database is locked while many write

Reply = tuple[int, Message]
# Whether none of the missing nodes will reply any more; the flag: two thirds have, it is late.
Lost = Callable[[set[int], bool], bool]


class Replies:
    """Replies by node id, each awaited by a thread of its own.

    Flower hands out a reply as soon as its node has begun to send it, and the call then waits for the rest:
    for up to three minutes if the node is gone, and all other replies of that call with it.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._found: queue.SimpleQueue[Reply | Exception] = queue.SimpleQueue()
        self._stop = threading.Event()

    def send(self, messages: Iterable[Message]) -> None:
        sent = list(messages)
        pause = max(_POLL_S, len(sent) / _POLLS_PER_S)
        for key, message in zip(self._grid.push_messages(sent), sent, strict=True):
            arguments = (key, message.metadata.dst_node_id, pause)
            threading.Thread(target=self._await, args=arguments, daemon=True).start()

    def _await(self, key: str, node: int, pause: float) -> None:
        failed = 0
        try:
            while not self._stop.is_set():
                try:
                    for reply in self._grid.pull_messages([key]):
                        # By message: Flower's own error replies do not name the node.
                        self._found.put((node, reply))
                        return
                    failed = 0
                except httpx.HTTPStatusError as error:
                    failed += 1
                    if not error.response.is_server_error or failed == _TRIES:
                        raise
                self._stop.wait(pause)
        except Exception as error:
            self._found.put(error)

    def take(self, seconds: float) -> Iterator[Reply]:
        """What has come; waits for the first as long as that. Raises what a pull raised."""
        with contextlib.suppress(queue.Empty):
            item = self._found.get(timeout=max(seconds, 0.0))
            while True:
                if isinstance(item, Exception):
                    raise item
                yield item
                item = self._found.get_nowait()

    def close(self) -> None:
        """No more replies are awaited."""
        self._stop.set()


def ask_all(
    grid: Grid,
    messages: Iterable[Message],
    timeout: float,
    use: Callable[[int, Message], object],
    grace: float | None = None,
    lost: Lost = lambda missing, late: False,
) -> set[int]:
    """Gives each node's reply to `use` as soon as it comes, and returns the nodes that replied.

    Nothing is kept of a reply. Whoever has not replied in `timeout` seconds is missing.

    With `grace`, waiting ends so many seconds after two thirds have replied, or half as long again as those
    took: the last ones are taken for lost. It ends earlier if `lost` is true twice in a row; it is asked
    about once a second.
    """
    sent = list(messages)
    nodes = {message.metadata.dst_node_id for message in sent}
    found: set[int] = set()
    began = time.monotonic()
    latest = began + timeout
    in_a_row = 0
    replies = Replies(grid)
    try:
        replies.send(sent)
        while nodes - found and (left := latest - time.monotonic()) > 0:
            for node, reply in replies.take(min(left, _LOOK_S)):
                use(node, reply)
                found.add(node)
            late = 3 * len(found) >= 2 * len(sent)
            if grace is not None and late:
                # Uploads leave in steps, each by 2^(1/2) later than the one before: at least one more.
                now = time.monotonic()
                latest = min(latest, now + max(grace, (now - began) / 2))
                grace = None
            if missing := nodes - found:
                in_a_row = in_a_row + 1 if lost(missing, late) else 0
                if in_a_row == 2:
                    break
    finally:
        replies.close()
    return found
