"""Starts training runs at the SuperLink with Flower's own command line."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..base.files import write_private
from ..base.state import State
from ..daemons.supervisor import flower_environment
from ..protocol.errors import LocalError

log = logging.getLogger("smpcfl.aggregator")
_CONNECTION = "smpcfl"
_CALL_S = 60.0
_ACTIVE = ("pending", "starting", "running")


class Runs:
    """`state`: the aggregator's folder; `port`: the SuperLink's."""

    def __init__(self, state: Path, port: int) -> None:
        self._home = State(state).flower_cli
        self._environment = flower_environment(self._home)
        root = State(state).ca
        connection = (
            f'[superlink]\ndefault = "{_CONNECTION}"\n\n[superlink.{_CONNECTION}]\n'
            f'address = "127.0.0.1:{port}"\nroot-certificates = "{root.resolve()}"\n'
        )
        write_private(self._home / "config.toml", connection.encode())

    async def start(self, app: Path, config: Mapping[str, int | float | str | bool]) -> str:
        """Submits a run; returns Flower's run id. LocalError with Flower's own words if refused."""
        overrides = " ".join(f"{key}={_toml(value)}" for key, value in config.items())
        arguments = ["run", str(app), _CONNECTION, "--format", "json"]
        if overrides:
            arguments += ["--run-config", overrides]
        reply = await self._flwr(*arguments)
        return str(reply["run-id"])

    async def statuses(self) -> dict[str, str]:
        """Status by run id, such as `running` or `finished:completed`."""
        reply = await self._flwr("list", _CONNECTION, "--format", "json")
        return {str(run["run-id"]): str(run["status"]) for run in reply.get("runs", ())}

    async def status(self, run_id: str) -> str:
        """Of one run; `unknown` while the SuperLink does not answer."""
        try:
            return (await self.statuses()).get(run_id, "unknown")
        except LocalError:
            return "unknown"

    async def active(self) -> list[str]:
        """Runs that are not finished; peers take part in one at a time."""
        statuses = await self.statuses()
        return [run for run, status in statuses.items() if status.startswith(_ACTIVE)]

    async def stop(self, run_id: str) -> None:
        """LocalError with Flower's own words if it is not running."""
        await self._flwr("stop", run_id, _CONNECTION, "--format", "json")

    async def last_words(self, run_id: str) -> str:
        """The end of what the ServerApp printed, or why it is not known."""
        try:
            return (await self._output("log", run_id, _CONNECTION, "--show"))[-4000:]
        except LocalError as error:
            return str(error)

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
        process = await asyncio.create_subprocess_exec(
            "flwr",
            *arguments,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            output, _ = await asyncio.wait_for(process.communicate(), _CALL_S)
        except TimeoutError:
            raise LocalError(f"flwr {arguments[0]}: no answer within {_CALL_S:.0f} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return output.decode(errors="replace")


def _toml(value: int | float | str | bool) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value)
