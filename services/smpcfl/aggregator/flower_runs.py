"""Starts training runs at the SuperLink, and asks after them, with Flower's own command line."""

from __future__ import annotations

import asyncio
import codecs
import json
import logging
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.files import write_private
from ..base.host_port import joined
from ..base.state import State
from ..daemons.supervisor import flower_environment
from ..protocol.errors import LocalError

log = logging.getLogger("smpcfl.aggregator")
_CONNECTION = "smpcfl"
_CALL_S = 60.0
_ACTIVE = ("pending", "starting", "running")
_UNAVAILABLE = "Connection to the SuperLink is unavailable"
_RAISED = "ServerApp failed with exception"
_OURS = f"\n{LocalError.__module__}.{LocalError.__name__}: "
TRACEBACK = "Traceback (most recent call last):"
_EXIT = re.compile(r"^.*Exit Code: ", re.MULTILINE)  # and some advice of Flower's
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_HEAD = re.compile(r"(?:Starting|Printing) logstream for run_id[^\n]*\n")


@dataclass(frozen=True)
class FlowerRun:
    """One of Flower's runs. `status`: such as `running` or `finished:completed`; `app`: publisher/name.

    `details`: what Flower says of a failure.
    """

    run_id: str
    status: str
    app: str
    details: str

    @property
    def active(self) -> bool:
        return self.status.startswith(_ACTIVE)


def raised(details: str, words: str) -> bool:
    """Whether the ServerApp ended by an exception of its own: it would raise that again.

    `words`: the end of its log. If the SuperLink did not answer it, that is an accident.
    """
    return details.startswith(_RAISED) and not re.search(r"^httpx\.", words, re.MULTILINE)


def why_raised(details: str, words: str) -> str:
    """Why the ServerApp ended, to show; `words`: the end of its log.

    An error of ours says all in its text, one of the app's needs its traceback.
    """
    text = details.removeprefix(f"{_RAISED}: ")
    if _OURS in words:
        return text
    words = COLOUR.sub("", words)
    start = max(words.rfind(TRACEBACK), 0)
    end = _EXIT.search(words, start)
    return f"{text}\n{words[start : end.start() if end else None].rstrip()}"


class Runs:
    """`state`: the aggregator's folder; `port`: the SuperLink's; `host`: where it is called here."""

    def __init__(self, state: Path, port: int, host: str) -> None:
        self._home = State(state).flower_cli
        self._address = joined(host, port)
        self._environment = flower_environment(self._home)
        root = State(state).ca
        connection = (
            f'[superlink]\ndefault = "{_CONNECTION}"\n\n[superlink.{_CONNECTION}]\n'
            f'address = "{self._address}"\nroot-certificates = "{root.resolve()}"\n'
        )
        write_private(self._home / "config.toml", connection.encode())

    async def start(self, app: Path, config: Mapping[str, int | float | str | bool]) -> str:
        """Submits a run; returns Flower's run id. LocalError with Flower's own words if refused."""
        from ..daemons import app_files  # takes much of Flower with it

        staged = self._home / "app"
        app_files.stage(app, staged)
        overrides = " ".join(f"{key}={_toml(value)}" for key, value in config.items())
        arguments = ["run", str(staged), _CONNECTION, "--format", "json"]
        if overrides:
            arguments += ["--run-config", overrides]
        reply = await self._flwr(*arguments)
        return str(reply["run-id"])

    async def listed(self) -> list[FlowerRun]:
        """The last ones that the SuperLink knows, the newest first."""
        reply = await self._flwr("list", _CONNECTION, "--format", "json")
        return [
            FlowerRun(
                str(run["run-id"]),
                str(run["status"]),
                str(run.get("fab-id", "")),
                str(run.get("status-details", "")),
            )
            for run in reply.get("runs", ())
        ]

    async def statuses(self) -> dict[str, str]:
        """Status by run id."""
        return {run.run_id: run.status for run in await self.listed()}

    async def status(self, run_id: str) -> str:
        """Of one run; `unknown` while the SuperLink does not answer."""
        try:
            return (await self.statuses()).get(run_id, "unknown")
        except LocalError:
            return "unknown"

    async def active(self) -> list[str]:
        """Runs that are not finished; peers take part in one at a time."""
        return [run.run_id for run in await self.listed() if run.active]

    async def stop(self, run_id: str) -> None:
        """LocalError with Flower's own words if it is not running."""
        await self._flwr("stop", run_id, _CONNECTION, "--format", "json")

    async def details(self, run_id: str) -> str:
        """What Flower says of how it ended; empty if it is not known."""
        try:
            found = {run.run_id: run.details for run in await self.listed()}
        except LocalError:
            return ""
        return found.get(run_id, "")

    async def last_words(self, run_id: str) -> str:
        """The end of what the ServerApp printed, or why it is not known."""
        return (await self.printed(run_id))[-4000:]

    async def printed(self, run_id: str) -> str:
        """What the ServerApp printed until now, or why it is not known."""
        try:
            text = await self._output("log", run_id, _CONNECTION, "--show")
        except LocalError as error:
            return str(error)
        return _HEAD.split(text, maxsplit=1)[-1]

    async def output(self, run_id: str) -> AsyncIterator[str]:
        """What its ServerApp prints, from the start and as it comes, until the run is over.

        Ends early if the SuperLink does.
        """
        arguments = ("log", run_id, _CONNECTION, "--stream")
        async with self._started(*arguments) as process:
            assert process.stdout is not None
            decoder = codecs.getincrementaldecoder("utf-8")("replace")
            before: str | None = ""  # Flower's own lines
            while data := await process.stdout.read(1 << 16):
                text = decoder.decode(data)
                if before is not None:
                    before += text
                    if (head := _HEAD.search(before)) is None:
                        continue
                    text, before = before[head.end() :], None
                if text:
                    yield text
            await process.wait()

    async def _flwr(self, *arguments: str) -> dict[str, Any]:
        output = await self._output(*arguments)
        try:
            reply: dict[str, Any] = json.loads(output[output.index("{") :])
        except ValueError:
            raise LocalError(f"flwr {arguments[0]}: {output.strip()[-500:]}") from None
        if not reply.get("success", False):
            raise LocalError(f"flwr {arguments[0]}: {reply.get('error-message', output.strip())}")
        return reply

    async def _output(self, *arguments: str) -> str:
        async with self._started(*arguments) as process:
            try:
                output, _ = await asyncio.wait_for(process.communicate(), _CALL_S)
            except TimeoutError:
                raise LocalError(f"flwr {arguments[0]}: no answer within {_CALL_S:.0f} s") from None
        text = output.decode(errors="replace")
        if _UNAVAILABLE in text:
            raise LocalError(
                f"no SuperLink at {self._address}: is `smpcfl aggregator` up, and are these the address"
                " and the port that it was given (--host, --superlink-port)?"
            )
        return text

    @asynccontextmanager
    async def _started(self, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """In a session of its own: Ctrl-C is for the one who started it. It does not outlive the block."""
        process = await asyncio.create_subprocess_exec(
            "flwr",
            *arguments,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


def _toml(value: int | float | str | bool) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value)
