"""A small deployment on loopback for `smpcfl doctor` to look at, and what can be wrong with its parts."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from cryptography import x509

from smpc.v1 import registry_pb2_grpc as pb_grpc
from smpcfl.base.config import Settings
from smpcfl.base.metrics import Metrics
from smpcfl.base.state import State
from smpcfl.cli import doctor, doctor_ports, doctor_registry
from smpcfl.cli.stack import free_ports
from smpcfl.net import certificates, rpc
from smpcfl.net.certificates import Identity, Role
from smpcfl.protocol.signing import AGGREGATOR
from smpcfl.registry.registry_service import EnrolmentService, RegistryService
from smpcfl.registry.roster import Roster
from support.enrolled import Deployment, draws_of

HOST = "127.0.0.1"
PEER = "peer-a"


@dataclass
class Diagnosis:
    code: int
    findings: list[dict[str, str | None]]

    def of(self, check: str) -> dict[str, str | None]:
        (found,) = [item for item in self.findings if item["check"] == check]
        return found

    def shows(self, level: str, check: str, found: str, remedy: str) -> None:
        """That this finding is there, with its remedy, and the exit code that goes with it."""
        shown = self.of(check)
        assert shown["level"] == level, shown
        assert found in self.text(check), shown
        assert remedy in (shown["remedy"] or ""), shown
        assert self.code == (level == "fault"), self.findings

    def text(self, check: str) -> str:
        return self.of(check)["found"] or ""

    def levels(self) -> set[str | None]:
        return {item["level"] for item in self.findings}


class Sick:
    """Registry, SuperLink and one peer, all well at first. `settings` are those of the peer."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.folder = folder
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self._stack = AsyncExitStack()
        self.deployment = Deployment(folder / "deployment")
        self.join = folder / "deployment" / "join"
        self.roster = Roster(folder / "indices.json", 1)
        self.asked: list[str | None] = []  # by which names, in TLS
        self.clock_off_s = 0.0
        self.settings = Settings()

    async def start(self) -> None:
        authority = self.deployment.authority
        own = authority.own_identity(["localhost", HOST])
        draws = draws_of(authority, self.folder / "deployment" / "state")
        service = RegistryService(own, authority, self.roster, draws, Metrics("seeded"))
        registry, enrolment = rpc.new_server(), rpc.new_server()
        pb_grpc.add_RegistryServicer_to_server(service, registry)
        pb_grpc.add_EnrolmentServicer_to_server(
            EnrolmentService(authority, Metrics("seeded")), enrolment
        )
        ports = [
            await self.serve(registry, own.server_credentials()),
            await self.serve(enrolment, own.server_credentials(mutual=False)),
            await self.show(self.identity(Role.AGGREGATOR, AGGREGATOR, ["localhost"])),
        ]
        port, metrics_port, supernode_port = free_ports(3)
        self.settings = Settings(
            state=self.folder / "state",
            join=self.join / "peer",
            host=HOST,
            advertise=HOST,
            mdns="off",
            registry=f"{HOST}:{ports[0]}",
            enrolment=f"{HOST}:{ports[1]}",
            aggregator=f"localhost:{ports[2]}",
            port=port,
            metrics_port=metrics_port,
            supernode_port=supernode_port,
        )
        self.enrol()

    async def stop(self) -> None:
        await self._stack.aclose()

    # -- parts ---------------------------------------------------------------------------------------

    def identity(self, role: Role, name: str, hosts: Sequence[str] = ()) -> Identity:
        der = self.deployment.certificate(role, name, hosts)
        certificate = x509.load_der_x509_certificate(der)
        return Identity(role, name, self.deployment.key(name), certificate, self.deployment.ca)

    def enrol(self, role: Role = Role.PEER, name: str = PEER) -> Identity:
        """Leaves the state folder as a service that has enrolled does."""
        own = self.identity(role, name)
        certificates.save(self.settings.state, own)
        return own

    def expired(self, role: Role, name: str) -> Identity:
        """With a certificate whose life was over a minute ago."""
        self._monkeypatch.setattr(
            self.deployment.authority, "_life", datetime.timedelta(minutes=-1)
        )
        return self.identity(role, name, ["localhost", HOST])

    def not_enrolled(self) -> None:
        State(self.settings.state).certificate.unlink()

    def change(self, **settings: Any) -> None:
        self.settings = replace(self.settings, **settings)

    async def serve(self, server: grpc.aio.Server, credentials: grpc.ServerCredentials) -> int:
        port = rpc.bind(server, HOST, 0, credentials, "port")
        await server.start()
        self._stack.push_async_callback(server.stop, 0)
        return port

    async def show(self, own: Identity, port: int = 0) -> int:
        """Where `own` shows its certificate, and tells the time by HTTP."""
        folder = self.folder / f"shown-{own.name}-{own.certificate.serial_number}"
        certificates.save(folder, own)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(State(folder).certificate, State(folder).key)
        context.sni_callback = lambda connection, name, given: self.asked.append(name)

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):  # who looks and goes
                if await reader.readline():
                    now = datetime.datetime.fromtimestamp(
                        time.time() + self.clock_off_s, datetime.UTC
                    )
                    date = format_datetime(now, usegmt=True)
                    writer.write(
                        f"HTTP/1.1 403 no\r\ndate: {date}\r\ncontent-length: 0\r\n\r\n".encode()
                    )
            writer.close()

        return await self.listen(answer, port, context)

    async def silent(self) -> int:
        """Accepts, and says nothing."""

        async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        return await self.listen(wait)

    async def plaintext(self, port: int = 0) -> int:
        """A web server, which takes a TLS handshake for a bad request."""

        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()

        return await self.listen(refuse, port)

    async def listen(self, act: Any, port: int = 0, context: ssl.SSLContext | None = None) -> int:
        server = await asyncio.start_server(act, HOST, port, ssl=context)
        self._stack.callback(server.close)
        return int(server.sockets[0].getsockname()[1])

    def register(self, peer: str, port: int, software: str = "", protocol: int = 0) -> None:
        """Puts `peer` on the roster, for as long as the test takes."""
        certificate = self.deployment.certificate(Role.PEER, peer)
        now = time.monotonic()
        address, metrics = f"{HOST}:{port}", f"{HOST}:1"
        self.roster.register(peer, address, metrics, certificate, now, software, protocol)
        self.roster._entries[peer].last_seen = now + 1e6

    # -- the doctor ----------------------------------------------------------------------------------

    async def diagnosed(self, *checks: str, service: str | None = None) -> Diagnosis:
        """What it says; of these checks alone, if there are any."""
        if checks:
            left = {name: check for name, check in doctor.CHECKS.items() if name in checks}
            self._monkeypatch.setattr(doctor, "CHECKS", left)
        self._capsys.readouterr()
        code = await asyncio.to_thread(doctor.diagnose, self.settings, service, as_json=True)
        shown = json.loads(self._capsys.readouterr().out)
        return Diagnosis(code, shown["findings"])


@pytest.fixture
async def sick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> AsyncIterator[Sick]:
    monkeypatch.delenv("SMPCFL_TOKEN", raising=False)
    for module in (doctor_ports, doctor_registry):
        # What answers is on this machine, which may be a busy one; what does not, never does.
        monkeypatch.setattr(module, "DEADLINE_S", 30.0)
    made = Sick(tmp_path, monkeypatch, capsys)
    await made.start()
    yield made
    await made.stop()
