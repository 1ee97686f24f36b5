"""What this machine is called by others."""

from __future__ import annotations

import ipaddress
import socket

import ifaddr

from ..base.host_port import split

Attachment = frozenset[tuple[int | None, str]]


def own_address(towards: str) -> str:
    """The local address from which `towards` (host:port) is reached, or else that of the host's name."""
    try:
        return way_to(towards)
    except OSError:
        return str(socket.getaddrinfo(socket.gethostname(), None)[0][4][0])


def way_to(towards: str) -> str:
    """The local address from which `towards` (host:port) is reached; OSError if none is. Nothing is sent.

    An IPv4 address where there is one, because more machines reach that.
    """
    host, port = split(towards)
    error = OSError(f"no way to {towards}")
    found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    for family, _, _, _, address in sorted(found, key=lambda item: item[0] != socket.AF_INET):
        try:
            source = _source(family, address)
        except OSError as failure:
            error = failure
            continue
        if not _is_link_local(source):  # as while a new IPv6 address is still being checked
            return source
    raise error


def on_link(host: str, towards: str) -> str | None:
    """The IPv4 address at which the machines on the same link reach this one, if there is one.

    `host`, which others are told to call (or empty), if that leads to an address of this machine's, and not
    to a NAT before it.
    """
    own = {str(ip.ip) for _, ip in _addresses() if ip.is_IPv4}
    try:
        called = {str(item[4][0]) for item in socket.getaddrinfo(host, None, socket.AF_INET)}
    except (OSError, UnicodeError):  # unknown here, an IPv6 address, or no name
        called = set()
    try:
        found = min(own & called, default="") or own_address(towards)
    except OSError:
        return None
    return None if ":" in found else found


def attachment() -> Attachment | None:
    """Numbers and addresses of the interfaces that lead out of this machine; None without a network.

    An interface that was taken away and given back has another number, whatever its address.
    """
    found = {(number, text) for number, ip in _addresses() if _leads_out(text := _text(ip))}
    return frozenset(found) or None


def _addresses() -> list[tuple[int | None, ifaddr.IP]]:
    return [(adapter.index, ip) for adapter in ifaddr.get_adapters() for ip in adapter.ips]


def _text(ip: ifaddr.IP) -> str:
    return ip.ip if isinstance(ip.ip, str) else ip.ip[0]


def _leads_out(text: str) -> bool:
    return not ipaddress.ip_address(text).is_loopback and not _is_link_local(text)


def _is_link_local(text: str) -> bool:
    return ipaddress.ip_address(text.partition("%")[0]).is_link_local


def _source(family: int, towards: tuple[object, ...]) -> str:
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(towards)
        return str(probe.getsockname()[0])
