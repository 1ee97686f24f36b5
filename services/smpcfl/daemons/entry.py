"""Becomes one of Flower's daemons: python -m smpcfl.daemons.entry PARENT COMMAND [ARGUMENT...]

It ends when its parent process does, however that ends (on Linux): it would hold its port and its
files against the next start. And it ends with the first of its threads that fails: an error of the
SuperLink ends a SuperNode's main thread or its heartbeats, and the rest of it stays, half dead.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import traceback
from importlib.metadata import entry_points
from pathlib import Path
from typing import NoReturn

from ..base import log

_PR_SET_PDEATHSIG = 1


def main(parent: int, command: list[str]) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return  # it was gone before
    scripts = tuple(entry_points(group="console_scripts", name=command[0]))
    if not scripts:
        os.execvp(command[0], command)
    _prepare(command)
    sys.argv = command
    threading.excepthook = _thread_failed
    code: object = 1
    try:
        code = scripts[0].load()()
    except SystemExit as error:
        code = error.code
    except BaseException:
        traceback.print_exc()
    _exit(code if isinstance(code, int) else int(code is not None))


def _prepare(command: list[str]) -> None:
    """What we add to Flower's daemons, with a log as the service's own has it among Flower's lines."""
    name = command[0].removeprefix("flower-")
    mode, log_format = os.environ.get("SMPCFL_MODE", ""), os.environ.get("SMPCFL_LOG_FORMAT", "")
    log.configure(name, mode, log_format, logger="smpcfl")
    if command[0] == "flower-superlink":
        from . import superlink_gate

        superlink_gate.install(command)
    elif command[0] == "flower-supernode":
        from ..base.state import State
        from . import partitions, supernode

        partitions.install(State(Path(os.environ["SMPCFL_PEER_STATE"])))
        supernode.install(os.environ["SMPCFL_APPS"], Path(os.environ["SMPCFL_RUN_APPS"]))


def _thread_failed(what: threading.ExceptHookArgs) -> None:
    if what.exc_type is not SystemExit:
        traceback.print_exception(what.exc_type, what.exc_value, what.exc_traceback)
        _exit(1)


def _exit(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
