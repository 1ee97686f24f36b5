"""What this machine is called by others."""

from __future__ import annotations

import socket

import ifaddr

_MDNS = ("224.0.0.251", 5353)

Attachment = tuple[str, int | None]


def own_address(towards: str) -> str:
    """The local address from which `towards` (host:port) is reached. Nothing is sent."""
    host, _, port = towards.rpartition(":")
    try:
        return _source((host, int(port)))
    except OSError:
        return socket.gethostbyname(socket.gethostname())


def attachment() -> Attachment | None:
    """Address and number of the interface that multicast leaves by; None without a network.

    An interface that was taken away and given back has another number, whatever its address.
    """
    try:
        address = _source(_MDNS)
    except OSError:
        return None
    for adapter in ifaddr.get_adapters():
        if any(ip.ip == address for ip in adapter.ips):
            return address, adapter.index
    return address, None


def _source(towards: tuple[str, int]) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(towards)
        return str(probe.getsockname()[0])
