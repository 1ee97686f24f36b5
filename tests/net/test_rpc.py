"""Why a port cannot be listened on."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from smpcfl.base.config import ConfigError, PortInUse
from smpcfl.net import rpc
from smpcfl.registry.targets import serve_targets
from support.enrolled import Deployment

pytestmark = pytest.mark.sockets


async def test_grpc_tells_a_taken_port_from_an_address_of_another_machine(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    credentials = Deployment(tmp_path).authority.own_identity([]).server_credentials()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            PortInUse, match=f"127.0.0.1:{port}: the port is in use.* --enrolment-port"
        ):
            rpc.bind(rpc.new_server(), "127.0.0.1", port, credentials, "enrolment-port")
        assert capfd.readouterr().err == "", "gRPC has nothing to add"
        with pytest.raises(
            ConfigError, match=r"203\.0\.113\.9:9200 \(Cannot assign .* with --host"
        ):
            rpc.bind(rpc.new_server(), "203.0.113.9", 9200, credentials, "port")


def test_the_targets_page_says_so_too() -> None:
    with pytest.raises(ConfigError, match=r"203\.0\.113\.9:9101 \(Cannot assign .* --targets-port"):
        serve_targets("203.0.113.9", 9101, None)  # type: ignore[arg-type]
