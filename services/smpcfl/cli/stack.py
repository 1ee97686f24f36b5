"""Starts registry, aggregator and peers as processes, and leaves none behind."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, TracebackType

from ..base import node_config
from ..base.config import BUNDLED_APP, Settings
from ..base.host_port import family, joined
from ..base.state import State
from ..daemons.supervisor import descendants
from ..protocol.errors import LocalError

LOOPBACK = "127.0.0.1"
_END_S = 12.0
# In peers' names: those that another command started may be on the same link.
_COMMAND = secrets.token_hex(2)
_ENDING: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stack:
    """`folder` gets a state folder and a log for each process. Use as a context manager.

    `apps` and `node_config`: as each peer's settings have them. `host`: the loopback address of all.
    """

    apps = BUNDLED_APP

    def __init__(
        self,
        folder: Path,
        mode: str,
        peers: int,
        rounds: int,
        seed: int,
        apps: str = apps,
        node_config: str = "",
        host: str = LOOPBACK,
    ) -> None:
        self.folder = folder
        self.mode = mode
        self.peers = peers
        self.rounds = rounds
        self.seed = seed
        self.apps = apps
        self.node_config = node_config
        self.host = host
        self.superlink_port = 0  # until it is started
        self.page_port = 0
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Stack:
        end_like_ctrl_c()
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _start(self) -> None:
        ports = free_ports(7 + 3 * self.peers)
        registry, enrolment, targets, superlink, self.page_port = ports[:5]
        self.superlink_port = superlink
        given = {node_config.NUMBER: self.peers, **node_config.parse(self.node_config)}
        join = self.folder / "join"
        where = {
            "registry": joined(self.host, registry),
            "enrolment": joined(self.host, enrolment),
        }
        self.start(
            "registry",
            "registry",
            {
                "join": join,
                "port": registry,
                "enrolment_port": enrolment,
                "targets_port": targets,
                "metrics_port": ports[5],
                "token_peers": max(self.peers, Settings.token_peers),
            },
        )
        self.start(
            "aggregator",
            "aggregator",
            {
                **where,
                "join": join / "aggregator",
                "superlink_port": superlink,
                "metrics_port": ports[6],
                "page_port": self.page_port,
                "keep_seen": "on",
                "min_peers": self.peers,
                "rounds": self.rounds,
                "seed": self.seed,
            },
        )
        for number in range(self.peers):
            port, metrics, supernode = ports[7 + 3 * number : 10 + 3 * number]
            name = f"peer-{number}"
            # The same data for the same name in every run, so that runs can be compared.
            nodes = {node_config.INDEX: number, **given}
            self.start(
                name,
                "peer",
                {
                    **where,
                    "join": join / "peer",
                    "peer_id": self.peer_id(number),
                    "aggregator": joined(self.host, superlink),
                    "port": port,
                    "metrics_port": metrics,
                    "supernode_port": supernode,
                    "apps": self.apps,
                    "node_config": node_config.write(self.folder / f"{name}.toml", nodes),
                    # One operator runs all of these, and wants to repeat what they do.
                    "min_cohort": max(3, min(5, self.peers)),
                    "given_seed": "on",
                    "tickets_per_hour": 3600,
                    "weighted_by": "any",
                },
            )

    def start(self, name: str, service: str, settings: dict[str, object]) -> None:
        """Starts one service; its output goes to `folder`/name.log."""
        state = self.folder / name
        state.mkdir(parents=True, exist_ok=True)
        given = {
            "mode": self.mode,
            "state": state,
            "host": self.host,
            "advertise": self.host,
            "mdns": LOOPBACK,
            **settings,
        }
        command = [sys.executable, "-m", "smpcfl", service]
        for key, value in given.items():
            command += [f"--{key.replace('_', '-')}", str(value)]
        with (self.folder / f"{name}.log").open("ab") as output, _signals_held():
            self._processes[name] = subprocess.Popen(
                command,
                env=self.environment_of(name),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def environment_of(self, name: str) -> dict[str, str]:
        """What the process `name` is started with."""
        return environment()

    @staticmethod
    def peer_id(number: int) -> str:
        return f"peer-{number}-{_COMMAND}"

    @property
    def aggregator(self) -> State:
        return State(self.folder / "aggregator")

    @property
    def records(self) -> Path:
        return self.aggregator.records

    def answers(self) -> bool:
        """Whether the SuperLink listens."""
        with socket.socket(family(self.host)) as probe:
            return probe.connect_ex((self.host, self.superlink_port)) == 0

    def check(self) -> None:
        """LocalError with the last lines of its log if a process has ended."""
        for name, process in self._processes.items():
            if process.poll() is not None:
                tail = self.log(name)[-1500:]
                raise LocalError(f"{name} ended with code {process.returncode}:\n{tail}")

    def log(self, name: str) -> str:
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def wait(self, done: Callable[[], bool], seconds: float, what: str) -> None:
        """Until `done`; LocalError with the aggregator's last lines if it takes too long."""
        latest = time.monotonic() + seconds
        while not done():
            self.check()
            if time.monotonic() > latest:
                tail = self.log("aggregator")[-1500:]
                raise LocalError(
                    f"{what} took more than {seconds:.0f} s; the aggregator's log:\n{tail}"
                )
            time.sleep(0.2)

    def stop(self) -> None:
        """Ends everything: the orderly way first, and after a while the other."""
        before = {number: signal.getsignal(number) for number in _ENDING}
        with contextlib.suppress(ValueError):  # only the main thread may, and only it gets signals
            for number in before:
                signal.signal(number, signal.SIG_IGN)
        try:
            self._stop()
        finally:
            with contextlib.suppress(ValueError):
                for number, handler in before.items():
                    signal.signal(number, handler)

    def _stop(self) -> None:
        below: set[int] = set()
        for process in self._processes.values():
            below |= set(descendants(process.pid))
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        latest = time.monotonic() + _END_S
        for process in self._processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(latest - time.monotonic(), 0.1))
            if process.poll() is None:
                below |= set(descendants(process.pid))
                process.kill()
                process.wait()
        for pid in below:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Signals that end the stack wait until after the block: none falls between a child's start and
    its record. By handler, not by a mask: the child would inherit that, and could not be ended.
    """
    came: list[tuple[int, FrameType | None]] = []
    before: dict[int, Callable[[int, FrameType | None], object]] = {}
    try:
        with contextlib.suppress(ValueError):  # not the main thread: no signal reaches it anyway
            for number in _ENDING:
                handler = signal.getsignal(number)
                if callable(handler):
                    signal.signal(number, lambda number, frame: came.append((number, frame)))
                    before[number] = handler
        yield
    finally:
        for number, held in before.items():
            signal.signal(number, held)
    for number, frame in came:
        before[number](number, frame)


def environment() -> dict[str, str]:
    """For what is started here: all but the user's settings of services, and where the digits are."""
    return {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("SMPCFL_") or key == "SMPCFL_MNIST"
    }


def end_like_ctrl_c() -> None:
    """SIGTERM and SIGHUP leave as little behind as Ctrl-C; unless ignored, as under nohup."""
    with contextlib.suppress(ValueError):  # not the main thread: no signal reaches it anyway
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, interrupt)


def interrupt(number: int, frame: object) -> None:
    """Handles a signal like Ctrl-C."""
    raise KeyboardInterrupt(f"stopped by {signal.Signals(number).name}")


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody uses now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for item in sockets:
            item.bind((LOOPBACK, 0))
        return [item.getsockname()[1] for item in sockets]
    finally:
        for item in sockets:
            item.close()
