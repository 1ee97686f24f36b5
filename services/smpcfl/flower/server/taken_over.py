"""Flower's grid, where a strategy around ours sends by itself: what it sends goes the secure way."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from flwr.app import Message
from flwr.serverapp import Grid

from .grid_around import GridAround
from .replies import ask_all


class OwnGrid(GridAround):
    """`grid` as its class has it, whatever its ways to send were replaced with."""

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return type(self._grid).push_messages(self._grid, messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return type(self._grid).pull_messages(self._grid, message_ids)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        replies: list[Message] = []
        ask_all(self, messages, timeout or math.inf, lambda node, reply: replies.append(reply))
        return replies


def take_over(grid: Any, secure: Grid) -> None:
    """`grid` sends through `secure` from now on, which has to hold its `OwnGrid`.

    A strategy's `start` looks `send_and_receive` up before it asks what to send, so the first round is in
    Flower's own one already, which pushes and pulls.
    """
    replies: list[Message] = []

    def push(messages: Iterable[Message]) -> Iterable[str]:
        replies.extend(secure.send_and_receive(messages))
        return []

    def pull(message_ids: Iterable[str]) -> Iterable[Message]:
        found = list(replies)
        replies.clear()
        return found

    grid.push_messages, grid.pull_messages = push, pull
    grid.send_and_receive = secure.send_and_receive
