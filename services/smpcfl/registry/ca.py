"""The deployment's CA: made at the registry's first start, or given by the operator."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from ..base import files
from ..base.state import AuthorityFolder, State
from ..net import certificates
from ..net.certificates import IdentityError

CA_YEARS = 10


def load_or_make_ca(folder: Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """Key and certificate in `folder`, as ca-key.pem and ca.pem; IdentityError if they are no CA."""
    key_path, certificate_path = AuthorityFolder(folder).ca_key, AuthorityFolder(folder).ca
    if not key_path.exists():
        if certificate_path.exists():
            raise IdentityError(f"{certificate_path} is there, but not its key {key_path}")
        files.write_private(key_path, certificates.key_pem(certificates.new_key()))
    if not certificate_path.exists():
        made = _self_signed(certificates.load_key(key_path))
        files.write_private(certificate_path, certificates.pem(made), mode=0o644)
    return load_ca_and_key(folder)


def load_ca_and_key(folder: Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """As `load_or_make_ca`, of a folder that has both."""
    path = AuthorityFolder(folder).ca
    key = certificates.load_key(AuthorityFolder(folder).ca_key)
    certificate = certificates.load_ca(path)
    check_ca(certificate, path, key)
    return key, certificate


def keep_given_ca(state: Path, certificate: x509.Certificate) -> None:
    """A copy in `state`; IdentityError where that has another one, under which the others have enrolled."""
    path = State(state).ca
    if path.exists():
        check_same_ca(state, certificate)
    else:
        files.write_private(path, certificates.pem(certificate), mode=0o644)


def check_same_ca(state: Path, certificate: x509.Certificate) -> None:
    """IdentityError unless it is the one that a registry keeps a copy of in `state`."""
    path = State(state).ca
    if certificates.load_ca(path) != certificate:
        raise IdentityError(
            f"the CA that this registry is given is not the one that it had, {path}: give it that one; or, to"
            " replace the CA, stop everything and empty the state folders of all"
        )


def check_ca(
    certificate: x509.Certificate, path: Path, key: ec.EllipticCurvePrivateKey | None = None
) -> None:
    """IdentityError unless what `path` has is a CA, with this key if one is given.

    For one that an operator brought, above all.
    """
    if key is not None and certificate.public_key() != key.public_key():
        raise IdentityError(f"{path} is not the certificate of the key in ca-key.pem beside it")
    if certificate.issuer != certificate.subject:
        raise IdentityError(
            f"{path} is not self-signed: TLS wants a root; make one for smpcfl alone"
        )
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        constraints = x509.BasicConstraints(ca=False, path_length=None)
    if not constraints.ca:
        raise IdentityError(f"{path} is no CA certificate: basic constraints have to say CA:TRUE")
    if certificate.not_valid_after_utc < datetime.datetime.now(datetime.UTC):
        raise IdentityError(f"{path} expired on {certificate.not_valid_after_utc:%Y-%m-%d}")


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
        .not_valid_before(now - certificates.BACKDATE)
        .not_valid_after(now + datetime.timedelta(days=365 * CA_YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, SHA256())
    )
