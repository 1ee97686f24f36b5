"""Host and port as one text: `name:9300`, `10.0.0.2:9300`, `[2001:db8::2]:9300`."""

from __future__ import annotations

import ipaddress
import re
import socket

_NAME = re.compile(r"[A-Za-z0-9._-]{1,253}")
# Names that gRPC reads as another kind of address.
_SCHEMES = {"dns", "ipv4", "ipv6", "unix", "unix-abstract", "vsock", "xds"}


def split(text: str) -> tuple[str, int]:
    """Host, without brackets, and port; ValueError for anything else."""
    host, _, port = text.rpartition(":")
    return _host(host), _port(port)


def split_advertised(text: str) -> tuple[str, int | None]:
    """As `split`, where the port may be left out, and with it the brackets; ValueError for anything else."""
    if _is_ipv6(text):
        return text, None
    try:
        return _host(text), None
    except ValueError:
        return split(text)


def joined(host: str, port: int) -> str:
    """The text of both; an IPv6 address gets brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def family(host: str) -> socket.AddressFamily:
    """For a socket that listens on `host`."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def near(host: str) -> str:
    """Where this machine itself calls what listens on `host`."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if not address.is_unspecified:
        return host
    return "127.0.0.1" if address.version == 4 else "::1"


def is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) <= 65535


def _host(text: str) -> str:
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else ""
    if (_NAME.fullmatch(text) and text.lower() not in _SCHEMES) or _is_ipv6(bare):
        return bare or text
    raise ValueError(f"{text!r} is no host")


def _port(text: str) -> int:
    if not is_port(text):
        raise ValueError(f"{text!r} is no port")
    return int(text)


def _is_ipv6(text: str) -> bool:
    """Without a zone (`%eth0`), which means something on one machine only."""
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return "%" not in text
