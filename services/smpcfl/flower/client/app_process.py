"""Becomes Flower's `flwr-clientapp`, which runs a ClientApp; `daemons/supernode.py` has it started.

An app without `secure_mod` is told so by name. Its own function would be called with a message that is not
for it, and fail with whatever it finds missing there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

from flwr.app import Context, Error, Message
from flwr.clientapp import client_app

from ..shared.records import ERROR_CODE, RECORD

NO_MOD = (
    "the app's ClientApp has no secure_mod, and so nothing was trained:"
    " ClientApp(mods=[smpcfl.flower.secure_mod])"
)


def guard() -> None:
    """From now on no ClientApp's function is called with a message that `secure_mod` has not taken."""
    make = client_app.make_ffn  # type: ignore[attr-defined]

    def make_guarded(function: Any, mods: list[Any]) -> Callable[..., Message]:
        def guarded(message: Message, context: Context) -> Any:
            if message.has_content() and RECORD in message.content:
                return Message(Error(ERROR_CODE, NO_MOD), reply_to=message)
            return function(message, context)

        return make(guarded, mods)

    client_app.make_ffn = make_guarded  # type: ignore[assignment, attr-defined]


def main() -> None:
    """With Flower's own arguments."""
    (script,) = entry_points(group="console_scripts", name="flwr-clientapp")
    guard()
    sys.argv[0] = script.name
    sys.exit(script.load()())


if __name__ == "__main__":
    main()
