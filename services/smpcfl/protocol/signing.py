"""Signatures with identity keys: ECDSA on P-256 with SHA-256 (FIPS 186-5), 64 bytes r || s.

P-256 because the same key serves TLS, and gRPC's TLS library does not verify Ed25519 certificates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.hashes import SHA256

from .errors import Reason, RemoteError

SIGNATURE_BYTES = 64
AGGREGATOR = "aggregator"
REGISTRY = "registry"

Signer: TypeAlias = Callable[[bytes], bytes]


class Keyring(Protocol):
    """Knows whose signatures are whose. `name` is a peer id, AGGREGATOR or REGISTRY."""

    def verify(self, name: str, message: bytes, signature: bytes) -> bool: ...


def check_signature(
    keyring: Keyring, peer: str, message: bytes, signature: bytes, what: str
) -> None:
    if not keyring.verify(peer, message, signature):
        raise RemoteError(Reason.BAD_SIGNATURE, what, peer=peer)


def signer(key: ec.EllipticCurvePrivateKey, *, deterministic: bool = False) -> Signer:
    """A function that signs with `key`; RFC 6979 nonces where `deterministic`."""

    def sign(message: bytes) -> bytes:
        algorithm = ec.ECDSA(SHA256(), deterministic_signing=deterministic)
        r, s = decode_dss_signature(key.sign(message, algorithm))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    return sign


def verify(key: ec.EllipticCurvePublicKey, message: bytes, signature: bytes) -> bool:
    if len(signature) != SIGNATURE_BYTES:
        return False
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    try:
        key.verify(encode_dss_signature(r, s), message, ec.ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True


@dataclass(frozen=True)
class KeyTable:
    """A keyring over a plain table of public keys."""

    keys: Mapping[str, ec.EllipticCurvePublicKey] = field(default_factory=dict)

    def verify(self, name: str, message: bytes, signature: bytes) -> bool:
        key = self.keys.get(name)
        return key is not None and verify(key, message, signature)
