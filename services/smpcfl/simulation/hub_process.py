"""The hub in a process of its own, where it does not have to share Python's lock with Flower's engine.

Its parent is the engine's process, with which it ends. What the parent asks it for goes through a manager of
`multiprocessing`, and what it logs, through its standard output.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing.managers import BaseManager
from pathlib import Path
from typing import cast

from ..net import hub_socket
from ..protocol.draw import GROUP_SIZE
from ..protocol.errors import LocalError
from .hub import Hub
from .hub_service import serve

_READY = "ready"
_END_S = 10.0
# Python gives a thread 5 ms before another one may go on. An exchange computes for seconds on end, and each
# of a ClientApp's calls passes through several threads.
_SWITCH_S = 5e-4
# A thousand peers are millions of objects, which Python would go through again and again for cycles.
_COLLECT_AFTER = 100_000


class _Manager(BaseManager):
    """`hub()`: a proxy of the hub, which any thread may call."""

    hub: Callable[[], Hub]


class HubProcess:
    """`flower_run`: whose ClientApps find it; the rest as of `Hub`. To be closed.

    LocalError, with what it printed, if it does not start.
    """

    def __init__(
        self,
        flower_run: int,
        mode: str,
        app: bytes,
        *,
        lost: float = 0.0,
        group_size: int = GROUP_SIZE,
    ) -> None:
        clients, calls, key = *hub_socket.make(flower_run), secrets.token_bytes(32)
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        options = {"mode": mode, "lost": lost, "group_size": group_size}
        given = {"clients": str(clients), "calls": str(calls), "key": key.hex(), "app": app.hex()}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(given | {"options": options}) + "\n")
        self._process.stdin.flush()
        if (first := self._process.stdout.readline().strip()) != _READY:
            rest = self._process.stdout.read()
            self._process.wait()
            raise LocalError(f"the hub of the virtual peers does not start: {first}\n{rest}")
        self._log = threading.Thread(target=self._forward, daemon=True)
        self._log.start()
        _Manager.register("hub")
        manager = _Manager(str(calls), key)
        manager.connect()
        self.hub = manager.hub()

    def _forward(self) -> None:
        for row in cast("list[str]", self._process.stdout):
            print(row, end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Ends it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.join()
        self._process.stdout.close()


def _main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of Ctrl-C its parent hears as well
    sys.setswitchinterval(_SWITCH_S)
    gc.set_threshold(_COLLECT_AFTER)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s", stream=sys.stderr)
    given = json.loads(sys.stdin.readline())
    options = given["options"]
    hub = Hub(
        options["mode"],
        bytes.fromhex(given["app"]),
        lost=options["lost"],
        group_size=options["group_size"],
    )
    _Manager.register("hub", lambda: hub)
    calls = _Manager(given["calls"], bytes.fromhex(given["key"])).get_server()
    clients = serve(hub, Path(given["clients"]))
    threading.Thread(target=calls.serve_forever, daemon=True).start()
    print(_READY, flush=True)
    sys.stdin.read()  # ends with the parent, whatever that died of
    clients.stop(0)
    os._exit(0)  # an exchange may go on


if __name__ == "__main__":
    _main()
