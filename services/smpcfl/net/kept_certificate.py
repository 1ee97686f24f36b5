"""Why a service cannot use the certificate that it kept."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509

from ..base.state import State
from . import certificates
from .certificates import IdentityError, Role
from .reachability import Trouble, check_validity, issued_by, issuer_key, key_of

_ANEW = "start the service with a join token that is good: it enrols anew"


def check_kept(folder: Path, ca: x509.Certificate, role: Role) -> None:
    """Trouble unless the certificate in the state folder is one of `ca` for `role`, valid, and of its key.

    A folder without one is fine: the service has not enrolled yet. IdentityError for a key that cannot be
    read.
    """
    state = State(folder)
    if not state.certificate.exists():
        return
    beside = f"restore {state.key} and {state.certificate} together, or remove both and enrol anew"
    try:
        certificate = x509.load_pem_x509_certificate(state.certificate.read_bytes())
    except (OSError, ValueError, x509.InvalidVersion) as error:
        raise Trouble(f"{state.certificate} is no PEM certificate ({error})", beside) from error
    if not state.key.exists():
        raise Trouble(f"{state.certificate} is there, but not its key {state.key}", beside)
    if not issued_by(certificate, ca):
        raise Trouble(
            f"the certificate is of another CA (key {issuer_key(certificate)}, that of the join folder's"
            f" ca.pem is {key_of(ca)})",
            "copy ca.pem from the registry's join folder; if it is the right one already, remove"
            f" {state.certificate}, and {_ANEW}",
        )
    check_validity(certificate, _ANEW)
    try:
        member = certificates.check_certificate(certificates.der(certificate), ca)
    except IdentityError as error:
        raise Trouble(str(error), _ANEW) from error
    if member.role is not role:
        raise Trouble(
            f"{folder} is that of {certificates.tls_name(member.role, member.name)}, and this is the"
            f" {role}",
            "give each service a state folder of its own (--state)",
        )
    if member.key != certificates.load_key(state.key).public_key():
        raise Trouble(f"{state.certificate} is not the certificate of {state.key}", beside)
