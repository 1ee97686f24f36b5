"""TLS 1.3 alone, whoever calls."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509

from smpcfl.base.state import State
from smpcfl.net import certificates
from smpcfl.net.certificates import Identity, Role
from support.enrolled import Deployment

pytestmark = pytest.mark.commands

CALL_S = 10.0

# gRPC reads once, when it is imported, that TLS 1.2 is out: so in a process that starts as services do.
SERVER = """
import asyncio, sys
from pathlib import Path
from smpcfl.net import certificates, rpc

async def serve(folder):
    own = certificates.load(folder, certificates.load_ca(folder / "ca.pem"))
    server = rpc.new_server()
    port = rpc.bind(server, "127.0.0.1", 0, own.server_credentials(), "port")
    await server.start()
    print(port, flush=True)
    await asyncio.to_thread(sys.stdin.read)

asyncio.run(serve(Path(sys.argv[1])))
"""


def version_spoken(port: int, folder: Path, newest: ssl.TLSVersion) -> str | None:
    """With the holder's own certificate; None where the server ends the handshake."""
    context = ssl.create_default_context(cafile=str(State(folder).ca))
    context.load_cert_chain(State(folder).certificate, State(folder).key)
    context.maximum_version = newest
    context.set_alpn_protocols(["h2"])
    name = certificates.tls_name(Role.PEER, "peer-a")
    with socket.create_connection(("127.0.0.1", port), CALL_S) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=name) as wrapped:
                # In TLS 1.3 the client's certificate is checked after its handshake.
                return wrapped.version() if wrapped.recv(1) else None
        except (ssl.SSLError, ConnectionError):
            return None


def test_tls_before_1_3_is_not_let_in(tmp_path: Path) -> None:
    enrolled = Deployment(tmp_path)
    certificate = x509.load_der_x509_certificate(enrolled.certificate(Role.PEER, "peer-a"))
    own = Identity(Role.PEER, "peer-a", enrolled.key("peer-a"), certificate, enrolled.ca)
    certificates.save(tmp_path, own)
    State(tmp_path).ca.write_bytes(certificates.pem(enrolled.ca))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GRPC_")}
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=clean,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        port = int(server.stdout.readline())
        assert version_spoken(port, tmp_path, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
        assert version_spoken(port, tmp_path, ssl.TLSVersion.TLSv1_2) is None
        server.stdin.close()
