"""Machines that are network namespaces on one bridge, each with a firewall and processes of its own."""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from smpcfl.cli.stack import environment
from smpcfl.daemons.supervisor import descendants

_END_S = 15.0
Settings = Mapping[str, str]  # the variables of a service


@functools.cache
def missing(*tools: str) -> str:
    """Why there are no namespaces with these tools here; empty if there are."""
    if os.geteuid() != 0:
        return "it takes root to make network namespaces"
    lost = [tool for tool in ("ip", *tools) if shutil.which(tool) is None]
    if lost:
        return f"no {', '.join(lost)} here"
    name = f"so{secrets.token_hex(3)}"
    made = run("ip", "netns", "add", name, check=False)
    run("ip", "netns", "del", name, check=False)
    return made.stderr.strip()


def run(
    *command: str, check: bool = True, settings: Settings | None = None
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command,
        env={**environment(), **(settings or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done


class Machine:
    """One namespace. `name` is what it is called in logs."""

    def __init__(self, namespace: str, name: str, folder: Path) -> None:
        self.name = name
        self.namespace = namespace
        self._folder = folder
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        run("ip", "netns", "add", namespace)
        self("ip", "link", "set", "lo", "up")

    def __call__(
        self, *command: str, check: bool = True, settings: Settings | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command here, to its end."""
        inside = ("ip", "netns", "exec", self.namespace, *command)
        return run(*inside, check=check, settings=settings)

    def python(
        self, *arguments: str, check: bool = True, settings: Settings | None = None
    ) -> subprocess.CompletedProcess[str]:
        return self(sys.executable, *arguments, check=check, settings=settings)

    def filter(self, rules: str) -> None:
        """Takes nftables rules, as `nft -f` has them."""
        path = self._folder / f"{self.name}.nft"
        path.write_text(rules)
        self("nft", "-f", str(path))

    def start(self, what: str, *command: str, settings: Settings | None = None) -> None:
        """Starts a process that stays; its output is added to `folder`/what.log."""
        with (self._folder / f"{what}.log").open("ab") as output:
            self._started[what] = subprocess.Popen(
                ("ip", "netns", "exec", self.namespace, *command),
                env={**environment(), **(settings or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def stop(self, what: str) -> None:
        process = self._started.pop(what)
        below = descendants(process.pid)
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)
        for pid in (*below, process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()

    def ended(self) -> Iterator[str]:
        """What was started here and runs no more."""
        for what, process in self._started.items():
            if process.poll() is not None:
                yield f"{what} at {self.name} ended with {process.returncode}"

    def close(self) -> None:
        for what in reversed(list(self._started)):
            self.stop(what)
        run("ip", "netns", "del", self.namespace, check=False)


class Internet:
    """The bridge, in a namespace of its own, and the machines on it. Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._prefix = f"so{secrets.token_hex(2)}"
        self._links: list[str] = []  # in this machine's own namespace
        self.machines: dict[str, Machine] = {}

    def __enter__(self) -> Internet:
        try:
            self.bridge = self.machine("bridge")
            self.bridge("ip", "link", "add", "bridge", "type", "bridge")
            self.bridge("ip", "link", "set", "bridge", "up")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def machine(self, name: str, *addresses: str) -> Machine:
        """A new one; with `addresses` (ADDRESS/PREFIX) its interface `out` is on the bridge."""
        made = Machine(f"{self._prefix}-{name}", name, self.folder)
        self.machines[name] = made
        if addresses:
            self.link(made, "out", self.bridge, name)
            self.bridge("ip", "link", "set", name, "master", "bridge")
            for address in addresses:
                made("ip", "address", "add", address, "dev", "out", "nodad")
        return made

    def link(self, one: Machine, its: str, other: Machine, others: str) -> None:
        """A cable between two of them, by the names of its two interfaces."""
        peer = ("peer", "name", others, "netns", other.namespace)
        one("ip", "link", "add", its, "type", "veth", *peer)
        one("ip", "link", "set", its, "up")
        other("ip", "link", "set", others, "up")

    def connect_host(self, address: str) -> None:
        """Puts this machine itself on the bridge as well."""
        own = f"{self._prefix}-host"
        self._links.append(own)
        peer = ("peer", "name", "host", "netns", self.bridge.namespace)
        run("ip", "link", "add", own, "type", "veth", *peer)
        run("ip", "address", "add", address, "dev", own)
        run("ip", "link", "set", own, "up")
        self.bridge("ip", "link", "set", "host", "master", "bridge", "up")

    def log(self, what: str) -> str:
        path = self.folder / f"{what}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def check(self) -> None:
        """Whatever was started still runs."""
        ended = [text for machine in self.machines.values() for text in machine.ended()]
        assert not ended, "\n".join(
            [*ended, *(self.log(text.split()[0])[-2000:] for text in ended)]
        )

    def close(self) -> None:
        for machine in reversed(self.machines.values()):
            machine.close()
        for link in self._links:
            run("ip", "link", "del", link, check=False)


def variables(settings: Mapping[str, object]) -> dict[str, str]:
    """Of a service, from the names of its settings."""
    return {f"SMPCFL_{key.upper()}": str(value) for key, value in settings.items()}
