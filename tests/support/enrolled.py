"""Certificates of a deployment of a test's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from smpcfl.net import certificates
from smpcfl.net.certificates import Identity, Role
from smpcfl.protocol.draw import GROUP_SIZE
from smpcfl.registry.authority import Authority
from smpcfl.registry.draws import Draws


class Deployment:
    """A CA in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._join = folder / "join"
        self.authority = Authority(folder / "state", self._join)
        self.ca = self.authority.certificate
        self._keys: dict[str, ec.EllipticCurvePrivateKey] = {}

    def key(self, name: str) -> ec.EllipticCurvePrivateKey:
        return self._keys.setdefault(name, certificates.new_key())

    def certificate(self, role: Role, name: str, hosts: Sequence[str] = ()) -> bytes:
        """A new one, DER, as enrolment gives it."""
        key = self.key(name)
        csr = certificates.signing_request(key, role, name, hosts)
        token = (self._join / role / "token").read_text()
        return certificates.der(self.authority.enrol(token, csr, role, name))

    def identity(self, role: Role, name: str) -> Identity:
        """What the holder of a new certificate has."""
        if role is Role.REGISTRY:
            return self.authority.own_identity([])
        certificate = x509.load_der_x509_certificate(self.certificate(role, name))
        return Identity(role, name, self._keys[name], certificate, self.ca)


def draws_of(
    authority: Authority, state: Path, group_size: int = GROUP_SIZE, **options: Any
) -> Draws:
    """The draws of the registry whose CA is `authority`'s, kept in `state`."""
    return Draws(state, authority.key, authority.certificate, group_size, **options)
