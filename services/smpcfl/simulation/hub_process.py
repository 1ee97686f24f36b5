"""The hub in a process of its own, where it does not have to share Python's lock with Flower's engine.

Its parent is the engine's process, with which it ends. What the parent asks it for goes through a manager of
`multiprocessing`, and what it logs, through its standard output.
"""

from __future__ import annotations

import contextlib
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
from typing import Any, cast

from ..net import hub_socket
from ..protocol.draw import GROUP_SIZE
from ..protocol.errors import LocalError
from .hub import Hub
from .hub_service import serve

log = logging.getLogger("smpcfl.simulation")
_READY = "ready"
_END_S = 10.0
# Python gives a thread 5 ms before another one may go on. An exchange computes for seconds on end, and each
# of a ClientApp's calls passes through several threads.
SWITCH_S = 5e-4
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
        self._remote = _Remote(self._process)
        self.hub = cast(Hub, self._remote)
        options = {"mode": mode, "lost": lost, "group_size": group_size}
        given = {"clients": str(clients), "calls": str(calls), "key": key.hex(), "app": app.hex()}
        self._log = threading.Thread(target=self._forward, daemon=True)
        try:
            self._await_ready(json.dumps(given | {"options": options}))
            self._log.start()
            _Manager.register("hub")
            manager = _Manager(str(calls), key)
            manager.connect()
            self._remote.hub = manager.hub()
        except BaseException:
            self.close()
            raise

    def _await_ready(self, given: str) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # what it died of is what it printed
            self._process.stdin.write(given + "\n")
            self._process.stdin.flush()
        printed = ""
        for row in self._process.stdout:
            if row.strip() == _READY:
                return
            printed += row  # libraries may have something to say first
        raise LocalError(f"the hub of the virtual peers does not start:\n{printed}")

    def _forward(self) -> None:
        assert self._process.stdout is not None
        for row in self._process.stdout:
            try:
                level, text = json.loads(row)
                log.log(level, "%s", text)
            except (ValueError, TypeError):
                print(row, end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Ends it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._remote.hub = None  # a proxy takes its leave of the process, which is still there
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._log.is_alive():
            self._log.join()
        self._process.stdout.close()


class _Remote:
    """The hub's methods, at the other end. LocalError if its process has died."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.hub: Hub | None = None
        self._process = process

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.hub, name)

        def call(*given: Any) -> Any:
            try:
                return method(*given)
            except (EOFError, OSError) as error:
                code = self._process.poll()
                why = "is it out of memory?" if code == -signal.SIGKILL else "see above"
                raise LocalError(
                    f"the hub of the virtual peers has ended, with code {code}: {why}"
                ) from error

        return call


class _Line(logging.Formatter):
    """For the parent, which logs it as its own."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps([record.levelno, super().format(record)])


def _main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of Ctrl-C its parent hears as well
    sys.setswitchinterval(SWITCH_S)
    gc.set_threshold(_COLLECT_AFTER)
    lines = logging.StreamHandler(sys.stdout)
    lines.setFormatter(_Line())
    logging.basicConfig(level=logging.INFO, handlers=[lines])
    given = json.loads(sys.stdin.readline())
    hub = Hub(app=bytes.fromhex(given["app"]), **given["options"])
    _Manager.register("hub", lambda: hub)
    calls = _Manager(given["calls"], bytes.fromhex(given["key"])).get_server()
    os.chmod(given["calls"], 0o600)
    clients = serve(hub, Path(given["clients"]))
    threading.Thread(target=calls.serve_forever, daemon=True).start()
    print(_READY, flush=True)
    sys.stdin.read()  # ends with the parent, whatever that died of
    clients.stop(0)
    os._exit(0)  # an exchange may go on


if __name__ == "__main__":
    _main()
