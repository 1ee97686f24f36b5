"""Whether a port can be reached, speaks TLS and shows the certificate that it should; and if not, why.

Nothing is called there: a connection is made, its certificate looked at, and it is closed.
"""

from __future__ import annotations

import errno
import socket
import ssl
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TypeVar

from cryptography import x509

from ..base.host_port import split
from . import certificates
from .certificates import Role

T = TypeVar("T")
NTP = "set this clock right (NTP); if it is, that of who made the certificate"


class Trouble(Exception):
    """What was found wrong, and the remedy."""

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(f"{found}: {remedy}")
        self.found = found
        self.remedy = remedy


def within(seconds: float, act: Callable[[], T]) -> T:
    """What `act` returns; TimeoutError once it takes longer, and then it is left to itself.

    For what has no deadline of its own, as the system's resolver of names.
    """
    results: SimpleQueue[T | Exception] = SimpleQueue()

    def work() -> None:
        try:
            results.put(act())
        except Exception as error:
            results.put(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        result = results.get(timeout=seconds)
    except Empty:
        raise TimeoutError(f"no answer within {seconds:.0f} s") from None
    if isinstance(result, Exception):
        raise result
    return result


def resolve(host: str, seconds: float) -> list[str]:
    """The addresses of `host`, at least one; Trouble if there are none."""
    try:
        found = within(seconds, lambda: socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise Trouble(
            f"the name {host!r} is unknown here ({reason})",
            "correct it, make it known to this machine's name server or /etc/hosts, or give an address",
        ) from error
    return list(dict.fromkeys(str(item[4][0]) for item in found))


def connect(address: str, seconds: float) -> socket.socket:
    """A connection to host:port, by whichever address of the host takes one; Trouble if none does."""
    host, port = split(address)
    error: OSError = OSError("no address")
    until = time.monotonic() + seconds
    for found in resolve(host, seconds):
        try:
            left = max(0.1, until - time.monotonic())
            return socket.create_connection((found, port), timeout=left)
        except OSError as failure:
            error = failure
    raise _no_connection(error, address, port, seconds) from error


def _no_connection(error: OSError, address: str, port: int, seconds: float) -> Trouble:
    if isinstance(error, ConnectionRefusedError):
        return Trouble(
            f"refused: nobody listens at {address}",
            "start the service there, or give its right port",
        )
    if isinstance(error, TimeoutError):
        return Trouble(
            f"no answer from {address} in {seconds:.0f} s: a firewall drops it, or nobody has the address",
            f"let TCP port {port} through, there and on the way, or give the right address",
        )
    if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        return Trouble(
            f"{address} is unreachable ({error.strerror})",
            "give this machine a route to it, or give an address that it has one to",
        )
    return Trouble(
        f"no connection to {address} ({error.strerror or error})",
        "look at the network and the firewall of both machines",
    )


def shown_certificate(address: str, seconds: float, name: str = "") -> x509.Certificate:
    """The certificate that host:port shows in a TLS 1.3 handshake; whose it is, is not checked here.

    `name`: who is asked for, by which a relay finds the way (SNI), as in a call of gRPC's; else the host.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # else a wrong one could not be named
    context.set_alpn_protocols(["h2", "http/1.1"])
    asked = name or split(address)[0]
    connection = connect(address, seconds)
    with connection:
        connection.settimeout(seconds)
        try:
            with context.wrap_socket(connection, server_hostname=asked) as secured:
                shown = secured.getpeercert(binary_form=True)
        except TimeoutError as error:
            raise Trouble(
                f"{address} takes the connection and says nothing for {seconds:.0f} s",
                "look whether the service there hangs, or a proxy or load balancer stands before it",
            ) from error
        except (ssl.SSLError, OSError) as error:
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
            raise Trouble(
                f"no TLS 1.3 at {address} ({reason}): it is another service, or a proxy in between",
                "give the right port; a proxy has to pass TCP on as it is",
            ) from error
    assert shown is not None  # a server without a certificate ends the handshake
    try:
        return x509.load_der_x509_certificate(shown)
    except (ValueError, x509.InvalidVersion) as error:
        raise Trouble(
            f"{address} shows a certificate that cannot be read ({error})",
            "give the address and port of the right service",
        ) from error


def check_shown(certificate: x509.Certificate, ca: x509.Certificate, role: Role, name: str) -> None:
    """Trouble unless it is a certificate of `ca` for `name` in `role`, valid now."""
    if not issued_by(certificate, ca):
        raise Trouble(
            f"its certificate is of another CA (key {issuer_key(certificate)}, ours is {key_of(ca)})",
            "give the address of this deployment, or copy ca.pem from its registry's join folder",
        )
    check_validity(
        certificate,
        "start that service again, with a join token that is good; if it runs well, set this clock right"
        " (NTP)",
    )
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    named = certificates.only_role(names.get_values_for_type(x509.DNSName))
    if named != (role, name):
        found = "nobody" if named is None else certificates.tls_name(*named)
        raise Trouble(
            f"its certificate is that of {found}, not of {certificates.tls_name(role, name)}",
            "give the address and port of the right service",
        )


def check_validity(certificate: x509.Certificate, if_expired: str) -> None:
    """Trouble unless it is valid now; `if_expired` is the remedy for one that no longer is."""
    now = certificates.now()
    since, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < since:
        raise Trouble(
            f"the certificate is not valid before {since:%Y-%m-%d %H:%M:%S} UTC, and this clock shows"
            f" {now:%Y-%m-%d %H:%M:%S}",
            NTP,
        )
    if now > until:
        raise Trouble(
            f"the certificate expired at {until:%Y-%m-%d %H:%M:%S} UTC, and this clock shows"
            f" {now:%Y-%m-%d %H:%M:%S}",
            if_expired,
        )


def issued_by(certificate: x509.Certificate, ca: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(ca)
    except (
        Exception
    ):  # of many kinds, as a stranger's certificate may hold what nobody has heard of
        return False
    return True


def key_of(ca: x509.Certificate) -> str:
    """Short, of the CA's key; as `issuer_key` tells it of what that CA has issued."""
    return _short(x509.SubjectKeyIdentifier.from_public_key(ca.public_key()).digest)


def issuer_key(certificate: x509.Certificate) -> str:
    """Short, of the key of the CA that issued it, as the certificate itself says."""
    try:
        kind = x509.AuthorityKeyIdentifier
        found = certificate.extensions.get_extension_for_class(kind).value.key_identifier
    except Exception:  # as above
        found = None
    return _short(found) if found else "unknown"


def _short(identifier: bytes) -> str:
    return identifier.hex()[:16]
