"""The deployment's CA: issues certificates against a join token."""

from __future__ import annotations

import datetime
import hmac
import re
import secrets
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .. import identity
from ..identity import Identity, IdentityError, Role
from ..protocol.errors import Reason, RemoteError
from ..protocol.signing import REGISTRY

CA_YEARS = 10
LEAF_DAYS = 90
_HOST = re.compile(
    r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?", re.ASCII | re.IGNORECASE
)  # and so no wildcard
_BACKDATE = datetime.timedelta(minutes=5)  # clocks of peers may run a little behind


class Authority:
    """CA key and certificate in `state`, join tokens by role in `join`/<role>/token.

    `join`/<role> also gets ca.pem, after the token: where it stands, a machine can enrol.
    """

    def __init__(self, state: Path, join: Path) -> None:
        self._state = state
        self._join = join
        self.key, self.certificate = self._load_or_make_ca()
        self._tokens = {
            role: self._load_or_make_token(role) for role in (Role.PEER, Role.AGGREGATOR)
        }
        for role in self._tokens:
            identity.write_private(join / role / "ca.pem", identity.pem(self.certificate), 0o644)

    def own_identity(self, hosts: list[str]) -> Identity:
        """The registry's identity, made anew at each start."""
        key = identity.new_key()
        request = identity.signing_request(key, Role.REGISTRY, REGISTRY, hosts)
        certificate = self._issue(x509.load_der_x509_csr(request), Role.REGISTRY, REGISTRY)
        return Identity(Role.REGISTRY, REGISTRY, key, certificate, self.certificate)

    def enrol(self, token: str, csr: bytes, role: str, name: str) -> x509.Certificate:
        """A certificate for the key in `csr`; RemoteError for a wrong token, role or request."""
        if role not in (Role.PEER, Role.AGGREGATOR):
            raise RemoteError(Reason.ROLE, f"no certificates for role {role!r}")
        if not hmac.compare_digest(token.encode(), self._tokens[Role(role)].encode()):
            raise RemoteError(Reason.BAD_TOKEN, f"join token for role {role}", peer=name)
        try:
            request = x509.load_der_x509_csr(csr)
            key, good = request.public_key(), request.is_signature_valid
        except Exception as error:  # of many kinds, as requests may hold what nobody has heard of
            raise RemoteError(Reason.MALFORMED, f"signing request: {error}", peer=name) from error
        if not good or not isinstance(key, ec.EllipticCurvePublicKey):
            raise RemoteError(Reason.MALFORMED, "signing request", peer=name)
        if role == Role.PEER:
            try:
                identity.check_name(name)
            except IdentityError as error:
                raise RemoteError(Reason.MALFORMED, str(error)) from error
            self._claim(name, key)
        elif name != Role.AGGREGATOR.value:
            raise RemoteError(Reason.MALFORMED, "the aggregator's name is 'aggregator'", found=name)
        return self._issue(request, Role(role), name)

    def _claim(self, name: str, key: object) -> None:
        """A peer id belongs to the key that took it first."""
        assert isinstance(key, ec.EllipticCurvePublicKey)
        own = key.public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
        )
        path = self._state / "peers" / name
        if path.exists():
            if path.read_bytes() != own:
                raise RemoteError(Reason.NAME_TAKEN, "peer id held by another key", peer=name)
        else:
            identity.write_private(path, own)

    def _issue(
        self, request: x509.CertificateSigningRequest, role: Role, name: str
    ) -> x509.Certificate:
        names: list[x509.GeneralName] = [x509.DNSName(identity.tls_name(role, name))]
        if role is not Role.PEER:
            names += _hosts(request, own=identity.tls_name(role, name))
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self.certificate.subject)
            .public_key(request.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _BACKDATE)
            .not_valid_after(now + datetime.timedelta(days=LEAF_DAYS))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage(
                    [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
                ),
                critical=False,
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                critical=False,
            )
            .sign(self.key, SHA256())
        )

    def _load_or_make_ca(self) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        key_path, certificate_path = self._state / "ca-key.pem", self._state / "ca.pem"
        if key_path.exists():
            key, certificate = identity.load_key(key_path), identity.load_ca(certificate_path)
        else:
            key = identity.new_key()
            certificate = _self_signed(key)
            # The certificate first: a key without one would be taken for a complete CA.
            identity.write_private(certificate_path, identity.pem(certificate), 0o644)
            identity.write_private(key_path, identity.key_pem(key))
        return key, certificate

    def _load_or_make_token(self, role: Role) -> str:
        path = self._join / role / "token"
        if not path.exists():
            identity.write_private(path, secrets.token_urlsafe(32).encode())
        return path.read_text().strip()


def _hosts(request: x509.CertificateSigningRequest, own: str) -> list[x509.GeneralName]:
    """The hosts asked for beside the name `own`; RemoteError for one that TLS could take for a role."""
    try:
        extension = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    except Exception as error:
        raise RemoteError(Reason.MALFORMED, f"signing request: {error}") from error
    hosts: list[x509.GeneralName] = []
    for name in extension.value:
        if isinstance(name, x509.IPAddress):
            hosts.append(name)
        elif isinstance(name, x509.DNSName) and name.value != own:
            if not _HOST.fullmatch(name.value) or identity.claims_role(name.value):
                raise RemoteError(
                    Reason.MALFORMED, "no certificates for this host", found=repr(name.value)
                )
            hosts.append(name)
    return hosts


def _self_signed(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "smpcfl deployment CA")])
    now = datetime.datetime.now(datetime.UTC)
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + datetime.timedelta(days=365 * CA_YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, SHA256())
    )
