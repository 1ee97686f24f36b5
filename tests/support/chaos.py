"""A stack whose peers are killed, paused and cut off at given points of a round.

The Flower app in tests/containers/chaos_app stops at points that the test names, so that a fault comes
where it is meant to and not where the machine happens to be; see its `stage.py`.
"""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from support.compose import ROOT, Compose, docker, wait

PROJECT = "smpcfl-chaos"
NETWORK = f"{PROJECT}_default"
_LINE = re.compile(r"(?:\x1b\[2K)?(\S+)\s+\| (.*)")
_IS_AT = re.compile(r"peer (peer-\S+) at ")


class Log:
    """What the containers of a project say, as it comes; new and restarted ones too."""

    def __init__(self, compose: Compose) -> None:
        self.lines: list[tuple[str, str]] = []
        self._process = subprocess.Popen(
            [*compose.command, "logs", "--follow", "--no-color"],
            cwd=ROOT,
            env=compose.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if (found := _LINE.match(line)) is not None:
                self.lines.append((f"{PROJECT}-{found[1]}", found[2]))

    def of(self, container: str, since: int = 0) -> list[str]:
        return [text for name, text in self.lines[since:] if name == container]

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()


class Stack:
    """Peers are named by their containers; `peer_id` tells the peer in one."""

    def __init__(self, compose: Compose, folder: Path, rounds: int, plan: dict[str, Any]) -> None:
        self.compose = compose
        self.folder = folder
        self.rounds = rounds
        self.current = 0
        for name in ("at", "hold", "go", "log"):
            (folder / name).mkdir()
        for path in (folder, *folder.iterdir()):
            path.chmod(0o777)  # the containers' user is another one
        (folder / "plan.json").write_text(json.dumps(plan))
        self._run: subprocess.Popen[str] | None = None
        self._since = 0

    def start(self, peers: int) -> None:
        self.compose("build", "registry", "aggregator", "peer")
        self.compose("up", "-d", "--scale", f"peer={peers}", "registry", "aggregator", "peer")
        self.log = Log(self.compose)
        containers = self.containers()
        self.wait(lambda: all(map(self.peer_id, containers)), 240, "the peers")
        self.wait(self._superlink_is_there, 180, "the SuperLink", every=2.0)
        run = ("exec", "-T", "aggregator", "smpcfl", "run")
        self._run = subprocess.Popen(
            [*self.compose.command, *run, "--app", "/chaos-app", "--rounds", str(self.rounds)],
            cwd=ROOT,
            env=self.compose.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.await_present(map(self.peer_id, containers), 240)

    def _superlink_is_there(self) -> bool:
        connect = "import socket; socket.create_connection(('127.0.0.1', 9092), 2)"
        try:
            self.compose("exec", "-T", "aggregator", "python", "-c", connect)
        except AssertionError:
            return False
        return True

    def stop(self) -> None:
        if self._run is not None:
            self._run.kill()
            self._run.wait()
        if hasattr(self, "log"):
            self.log.close()
            lines = "\n".join(f"{name} | {text}" for name, text in self.log.lines)
            (self.folder / "containers.log").write_text(lines)
        self.compose("down", "-v", "--timeout", "2", check=False)

    def finish(self) -> str:
        """What `smpcfl run` showed; it has to end well by itself."""
        assert self._run is not None
        output, _ = self._run.communicate(timeout=60)
        assert self._run.returncode == 0, output
        return output

    # -- who is there -----------------------------------------------------------------------------

    def containers(self) -> list[str]:
        """Those of all peers, running or not."""
        command = ["ps", "-a", "--filter", f"label=com.docker.compose.project={PROJECT}"]
        command += ["--filter", "label=com.docker.compose.service=peer", "--format", "{{.Names}}"]
        return sorted(docker(*command).split(), key=lambda name: int(name.rpartition("-")[2]))

    def peer_id(self, container: str) -> str:
        """Empty until it has said who it is. The last one, as a new container may have an old one's name."""
        found = [_IS_AT.search(text) for text in reversed(self.log.of(container))]
        return next((match[1] for match in found if match), "")

    def await_present(self, peers: Iterable[str], seconds: float = 120) -> None:
        """Between rounds, until the aggregator would take these into the next one."""
        path, wanted = self.folder / "present.json", set(peers)

        def present() -> bool:
            return path.exists() and wanted <= set(json.loads(path.read_text()))

        path.unlink(missing_ok=True)
        (self.folder / "wanted").touch()
        self.wait(present, seconds, f"{wanted}")
        (self.folder / "wanted").unlink()

    def said(self, service: str, text: str) -> bool:
        """Ever, by a container of this short name."""
        return any(text in line for line in self.log.of(f"{PROJECT}-{service}"))

    def found_by_mdns(self, container: str) -> int:
        page = (
            "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9100/metrics').read())"
        )
        metrics = docker("exec", container, "python", "-c", page)
        found = re.search(r'smpcfl_peers_discovered{[^}]*via="mdns"[^}]*} (\d+)', metrics)
        assert found is not None, metrics
        return int(found[1])

    # -- a round ----------------------------------------------------------------------------------

    def hold(self, points: Iterable[str]) -> None:
        """In the round that `go` starts next."""
        for point in points:
            (self.folder / "hold" / f"{self.current + 1}-{point}").touch()

    def release(self) -> None:
        for path in (self.folder / "hold").iterdir():
            path.unlink()

    def go(self) -> None:
        """Starts the next round."""
        self._since = len(self.log.lines)
        self.current += 1
        (self.folder / "go" / str(self.current)).touch()

    def reached(self, point: str) -> bool:
        return (self.folder / "at" / f"{self.current}-{point}").exists()

    def wait_at(self, point: str, seconds: float = 120) -> None:
        self.wait(lambda: self.reached(point), seconds, point)

    def wait_phase(self, container: str, text: str, seconds: float = 120) -> None:
        """Until the peer's log says so of the round that goes on."""
        wanted = f"round {self.current}{text}"

        def said() -> bool:
            return any(wanted in line for line in self.log.of(container, self._since))

        self.wait(said, seconds, f"{container}: {wanted!r}")

    def wait_end(self, seconds: float = 150) -> None:
        path = self.folder / "log" / f"{self.current}-model.npz"
        self.wait(path.exists, seconds, f"the end of round {self.current}")

    def node(self, peer: str) -> int:
        """Its node, from the time when its upload is frozen: what trains is shown another number."""
        return int((self.folder / "at" / f"{self.current}-frozen-{peer}").read_text())

    def ticket(self) -> dict[str, Any]:
        """Known from the time when no more uploads are awaited."""
        path = self.folder / "log" / f"{self.current}-ticket.json"
        ticket: dict[str, Any] = json.loads(path.read_text())
        return ticket

    def wait(
        self, done: Callable[[], bool], seconds: float, what: str = "", every: float = 0.05
    ) -> None:
        def done_or_over() -> bool:
            if done():
                return True
            if self._run is not None and self._run.poll() is not None:
                raise AssertionError(f"the run has ended: {self._run.communicate()[0]}")
            return False

        def describe() -> str:
            tail = "\n".join(f"{name} | {text}" for name, text in self.log.lines[-60:])
            return f"{tail}\nround {self.current}: waited {seconds} s for {what}"

        wait(done_or_over, seconds, describe, every)
