"""The SuperLink's memory stays flat, whatever is sent to its port. Flower's own process."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from flwr.common.constant import TIMESTAMP_HEADER
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
from flwr.supercore.date import now
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, sign_message
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE

from smpc.v1 import node_pb2 as pb
from smpcfl.aggregator import serve_aggregator
from smpcfl.base.config import Settings
from smpcfl.base.state import State
from smpcfl.cli.stack import LOOPBACK, free_ports
from smpcfl.daemons.node_key import PATH
from smpcfl.net import certificates
from smpcfl.net.certificates import Role
from smpcfl.net.node_proof import node_key_bytes
from smpcfl.protocol.signing import signer
from support.enrolled import Deployment

MIB = 1 << 20
FLOOD = 400 * MIB
FLAT = 100 * MIB  # one body at its bound, and what Python keeps of it, is below
_WAIT_S = 120.0  # until we give up: no verdict hangs on it


class SuperLink:
    """Flower's own, as the aggregator starts it, with one known node."""

    def __init__(self, folder: Path) -> None:
        self.deployment = Deployment(folder)
        self.state = folder / "aggregator"
        own = self.deployment.identity(Role.AGGREGATOR, "aggregator")
        certificates.save(self.state, own)
        State(self.state).ca.write_bytes(certificates.pem(own.ca))
        (self.port,) = free_ports(1)
        self.tls = ssl.create_default_context(cadata=certificates.pem(own.ca).decode())
        self.tls.check_hostname = False
        settings = Settings(state=self.state, host=LOOPBACK, superlink_port=self.port)
        child = serve_aggregator._superlink(settings)
        command = [sys.executable, "-m", "smpcfl.daemons.entry", str(os.getpid()), *child._command]
        self._log = folder / "superlink.log"
        with self._log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                env={**os.environ, **child._environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self.key = certificates.new_key()

    def register(self) -> None:
        """The node's key, once the SuperLink listens."""
        public = public_key_to_bytes(self.key.public_key())
        message = pb.NodeKey(
            certificate=self.deployment.certificate(Role.PEER, "peer-a"),
            public_key=public,
            signature=signer(self.deployment.key("peer-a"))(node_key_bytes(public)),
        )
        latest = time.monotonic() + _WAIT_S
        while True:
            assert self.process.poll() is None, self._log.read_text()[-2000:]
            with contextlib.suppress(httpx.TransportError):
                url = f"https://{LOOPBACK}:{self.port}{PATH}"
                reply = httpx.post(url, content=message.SerializeToString(), verify=self.tls)
                assert reply.status_code == 204, reply.text
                return
            assert time.monotonic() < latest, "the SuperLink does not listen"
            time.sleep(0.2)

    def headers(self, *, sign: bool) -> dict[str, str]:
        public = public_key_to_bytes(self.key.public_key())
        shown = {FLEET_HTTP_PUBLIC_KEY_HEADER: b64encode(public).decode()}
        if sign:
            time = now().isoformat()
            shown[TIMESTAMP_HEADER] = time
            signature = sign_message(self.key, time.encode())
            shown[FLEET_HTTP_SIGNATURE_HEADER] = b64encode(signature).decode()
        return shown

    def peak_bytes(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024

    @contextlib.contextmanager
    def request(self, **headers: str) -> Iterator[socket.socket]:
        """A connection on which a request's head was sent."""
        head = {
            "host": LOOPBACK,
            "content-type": PROTOBUF_MEDIA_TYPE,
            **headers,
        }
        lines = ["POST /v1/fleet/push-object HTTP/1.1", *(f"{k}: {v}" for k, v in head.items())]
        plain = socket.create_connection((LOOPBACK, self.port), timeout=_WAIT_S)
        with self.tls.wrap_socket(plain) as connection:
            connection.sendall("\r\n".join([*lines, "", ""]).encode())
            yield connection


@pytest.fixture
def superlink(tmp_path: Path) -> Iterator[SuperLink]:
    link = SuperLink(tmp_path)
    try:
        link.register()
        yield link
    finally:
        link.process.kill()
        link.process.wait()


def status_of(connection: socket.socket) -> int:
    return int(connection.recv(4096).split()[1])


def flood(connection: socket.socket, piece: bytes) -> None:
    """Sends up to FLOOD bytes, for as long as the other side takes them."""
    with contextlib.suppress(OSError):
        for _ in range(FLOOD // len(piece)):
            connection.sendall(piece)
        connection.recv(1)  # until all of it was looked at


CHUNK = b"%x\r\n%s\r\n" % (MIB, bytes(MIB))


@pytest.mark.processes
@pytest.mark.timeout(600)
def test_a_known_key_without_its_signature_makes_it_read_nothing(superlink: SuperLink) -> None:
    before = superlink.peak_bytes()
    length = {"content-length": str(FLOOD)}
    with superlink.request(**superlink.headers(sign=False), **length) as connection:
        assert status_of(connection) == 401, "before any of the body was sent"
        flood(connection, bytes(MIB))
    print(f"peak: {before >> 20} -> {superlink.peak_bytes() >> 20} MiB")
    assert superlink.peak_bytes() < before + FLAT


@pytest.mark.processes
@pytest.mark.timeout(600)
def test_a_node_sends_no_more_than_the_bound(superlink: SuperLink) -> None:
    before = superlink.peak_bytes()
    length = {"content-length": str(FLOOD)}
    with superlink.request(**superlink.headers(sign=True), **length) as connection:
        assert status_of(connection) == 413, "before any of the body was sent"
    chunked = {"transfer-encoding": "chunked"}
    with superlink.request(**superlink.headers(sign=True), **chunked) as connection:
        flood(connection, CHUNK)
    print(f"peak: {before >> 20} -> {superlink.peak_bytes() >> 20} MiB")
    assert superlink.peak_bytes() < before + FLAT


@pytest.mark.processes
@pytest.mark.timeout(600)
def test_headers_without_end_are_cut_off(superlink: SuperLink) -> None:
    before = superlink.peak_bytes()
    plain = socket.create_connection((LOOPBACK, superlink.port), timeout=_WAIT_S)
    with superlink.tls.wrap_socket(plain) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nx: ")
        flood(connection, b"x" * MIB)
    print(f"peak: {before >> 20} -> {superlink.peak_bytes() >> 20} MiB")
    assert superlink.peak_bytes() < before + FLAT
