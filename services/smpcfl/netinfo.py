"""What this machine is called by others."""

from __future__ import annotations

import socket


def own_address(towards: str) -> str:
    """The local address from which `towards` (host:port) is reached. Nothing is sent."""
    host, _, port = towards.rpartition(":")
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host, int(port)))
            return str(probe.getsockname()[0])
    except OSError:
        return socket.gethostbyname(socket.gethostname())
