"""Who is who: identity keys, certificates of the deployment's CA, and TLS made from them.

Role and name stand in the certificate as the DNS name `<name>.<role>.smpcfl`, which both TLS and the
checks of every call read.
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import logging
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from ..base.files import write_private
from ..base.log_events import LogEvent, about
from ..base.state import State
from ..protocol.errors import LocalError
from ..protocol.signing import AGGREGATOR, REGISTRY, Signer, signer, verify

log = logging.getLogger("smpcfl")
SUFFIX = ".smpcfl"
BACKDATE = datetime.timedelta(minutes=5)  # of a certificate: clocks may run a little behind
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?")


class Role(StrEnum):
    PEER = "peer"
    AGGREGATOR = AGGREGATOR
    REGISTRY = REGISTRY


class IdentityError(LocalError):
    """A key, certificate or token that is missing or does not fit."""


def is_name(name: str) -> bool:
    """Whether it is a peer id: up to 42 a-z, 0-9 and inner hyphens, and not a role's name."""
    return _NAME.fullmatch(name) is not None and name not in (AGGREGATOR, REGISTRY)


def check_name(name: str) -> str:
    """The name if it is a peer id; else IdentityError."""
    if not is_name(name):
        raise IdentityError(
            f"{name!r} is no peer id: up to 42 of a-z, 0-9 and inner hyphens, and neither"
            f" {AGGREGATOR!r} nor {REGISTRY!r}"
        )
    return name


def tls_name(role: Role, name: str) -> str:
    return f"{name}.{role}{SUFFIX}"


def claims_role(host: str) -> bool:
    """Whether a DNS name is one of ours to TLS, which ignores case and a dot at the end."""
    return SUFFIX + "." in host.lower() + "."


def parse_tls_name(text: str) -> tuple[Role, str] | None:
    """(role, name) of a DNS name in a certificate, None for any other name. As TLS compares them."""
    text = text.lower().rstrip(".")
    parts = text.removesuffix(SUFFIX).split(".")
    if not text.endswith(SUFFIX) or len(parts) != 2 or parts[1] not in list(Role):
        return None
    return Role(parts[1]), parts[0]


def only_role(names: Iterable[str]) -> tuple[Role, str] | None:
    """(role, name) of a certificate with these DNS names; None unless one alone claims a role."""
    claims = [name for name in names if claims_role(name)]
    return parse_tls_name(claims[0]) if len(claims) == 1 else None


@dataclass
class Identity:
    """This process's own key and certificate, and the CA's.

    `certificate` is replaced when it is renewed: connections made afterwards show the new one, those
    that stand go on.
    """

    role: Role
    name: str
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    certificate: x509.Certificate = field(repr=False)
    ca: x509.Certificate = field(repr=False)

    @property
    def signer(self) -> Signer:
        return signer(self.key)

    def server_credentials(self, *, mutual: bool = True) -> grpc.ServerCredentials:
        """Mutual TLS: a client without a certificate of the CA is not let in; unless `mutual` is off."""
        shown = self.certificate

        def configuration() -> grpc.ServerCertificateConfiguration:
            return grpc.ssl_server_certificate_configuration(
                [(key_pem(self.key), pem(shown))], pem(self.ca)
            )

        def renewed() -> grpc.ServerCertificateConfiguration | None:
            nonlocal shown
            if shown is self.certificate:
                return None
            shown = self.certificate
            return configuration()

        return grpc.dynamic_ssl_server_credentials(configuration(), renewed, mutual)  # type: ignore[arg-type]

    def channel_credentials(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(pem(self.ca), key_pem(self.key), pem(self.certificate))


@dataclass(frozen=True)
class Member:
    """A checked certificate: whose it is and with which key."""

    role: Role
    name: str
    key: ec.EllipticCurvePublicKey = field(repr=False)
    der: bytes = field(repr=False)
    since: datetime.datetime = field(repr=False)
    until: datetime.datetime = field(repr=False)

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.key)


def fingerprint(key: ec.EllipticCurvePublicKey) -> str:
    """SHA-256 of the public key (DER SubjectPublicKeyInfo), 64 hexadecimal digits."""
    spki = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(spki).hexdigest()


def hosts_of(certificate: x509.Certificate) -> list[str]:
    """The DNS names and IP addresses that it is for, its role's name among them."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = names.get_values_for_type(x509.IPAddress)
    return [*names.get_values_for_type(x509.DNSName), *map(str, addresses)]


def check_certificate(der: bytes, ca: x509.Certificate) -> Member:
    """IdentityError unless `der` is a certificate of `ca` that is valid now and names a role."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        certificate.verify_directly_issued_by(ca)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        key = certificate.public_key()
    except Exception as error:
        raise IdentityError(f"not a certificate of this deployment's CA: {error}") from error
    if not certificate.not_valid_before_utc <= now() <= certificate.not_valid_after_utc:
        raise IdentityError(
            f"certificate valid from {certificate.not_valid_before_utc} to"
            f" {certificate.not_valid_after_utc}, not now ({now()}); check the clock"
        )
    named = only_role(names.get_values_for_type(x509.DNSName))
    if named is None or not isinstance(key, ec.EllipticCurvePublicKey):
        raise IdentityError("certificate without exactly one role, or without an EC key")
    since, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return Member(*named, key, der, since, until)


class Members:
    """The certificates known here, as the core's Keyring. Revoked and expired ones do not count.

    `pinned`: if not empty, the only peers that count, each with the fingerprint of its key.
    """

    def __init__(self, ca: x509.Certificate) -> None:
        self.ca = ca
        self.pinned: Mapping[str, str] = {}
        self.revoked: frozenset[str] = frozenset()
        self._members: dict[str, Member] = {}
        self._mispinned: set[str] = set()

    def add(self, der: bytes) -> Member:
        """The member of this name; IdentityError unless `der` is of the CA, and counts.

        The newest certificate of a name stands, whatever comes later.
        """
        member = next((known for known in self._members.values() if known.der == der), None)
        if member is None or self.get(member.name) is None:
            member = check_certificate(der, self.ca)
        if member.name in self.revoked:
            raise IdentityError(f"the certificate of {member.name} is revoked")
        known = self.get(member.name)
        if known is not None and member.since < known.since:
            return known
        self._members[member.name] = member
        return member

    def get(self, name: str) -> Member | None:
        member = self._members.get(name)
        if member is None or name in self.revoked:
            return None
        if self.pinned and member.role is Role.PEER:
            expected = self.pinned.get(name)
            if expected != member.fingerprint:
                if expected is not None and name not in self._mispinned:
                    self._mispinned.add(name)
                    log.error(
                        "%s shows a key with fingerprint %s, but SMPCFL_MEMBERS has %s: it does not count",
                        name,
                        member.fingerprint,
                        expected,
                        extra=about(LogEvent.KEY_DIFFERS, peer=name),
                    )
                return None
        return member if now() <= member.until else None

    def verify(self, name: str, message: bytes, signature: bytes) -> bool:
        member = self.get(name)
        if member is None:
            return False
        expected = Role(name) if name in (AGGREGATOR, REGISTRY) else Role.PEER
        return member.role is expected and verify(member.key, message, signature)


def newest(one: bytes, other: bytes) -> bytes:
    """Of two certificates of the same holder, DER; either may be empty."""
    if one == other or not one or not other:
        return one or other
    since = [x509.load_der_x509_certificate(der).not_valid_before_utc for der in (one, other)]
    return one if since[0] > since[1] else other


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def renewal(certificate: x509.Certificate) -> datetime.datetime:
    """When to ask for the next one: after two thirds of its life, so that the last third is for retries."""
    start, end = certificate.not_valid_before_utc + BACKDATE, certificate.not_valid_after_utc
    return start + (end - start) * 2 / 3


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def new_peer_id() -> str:
    return f"peer-{secrets.token_hex(4)}"


def signing_request(
    key: ec.EllipticCurvePrivateKey, role: Role, name: str, hosts: Sequence[str] = ()
) -> bytes:
    """PKCS #10, DER. `hosts`: further DNS names or IP addresses (for the aggregator's SuperLink)."""
    names: list[x509.GeneralName] = [x509.DNSName(tls_name(role, name))]
    names += [general_name(host) for host in dict.fromkeys(hosts)]
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, SHA256())
        .public_bytes(serialization.Encoding.DER)
    )


def general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key: object = serialization.load_pem_private_key(path.read_bytes(), None)
    except Exception as error:  # of many kinds: a passphrase, an unknown curve, OpenSSL's own
        raise IdentityError(f"{path} holds no private key that can be read: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise IdentityError(f"{path} holds no EC private key")
    return key


def load_ca(path: Path) -> x509.Certificate:
    """IdentityError that says how to get one if there is none."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except FileNotFoundError:
        raise IdentityError(
            f"no CA certificate at {path}: copy ca.pem and the token from the registry's join folder"
        ) from None
    except (ValueError, x509.InvalidVersion) as error:
        raise IdentityError(f"{path} is no PEM certificate: {error}") from error


def load(folder: Path, ca: x509.Certificate) -> Identity | None:
    """The identity kept in `folder`, None if there is none or its certificate no longer stands."""
    key_path, certificate_path = State(folder).key, State(folder).certificate
    if not (key_path.exists() and certificate_path.exists()):
        return None
    try:
        certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
    except (ValueError, x509.InvalidVersion) as error:
        raise IdentityError(
            f"{certificate_path} is no PEM certificate ({error}): remove it to get another"
        ) from error
    try:
        member = check_certificate(der(certificate), ca)
    except IdentityError:
        return None
    key = load_key(key_path)
    if member.key != key.public_key():
        return None
    return Identity(member.role, member.name, key, certificate, ca)


def save(folder: Path, identity: Identity) -> None:
    """Key (readable by its owner alone) and certificate, each written whole or not at all."""
    write_private(State(folder).key, key_pem(identity.key))
    save_certificate(folder, identity.certificate)


def save_certificate(folder: Path, certificate: x509.Certificate) -> None:
    write_private(State(folder).certificate, pem(certificate))
