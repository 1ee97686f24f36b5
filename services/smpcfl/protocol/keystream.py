"""Masks: AES-256-CTR keystreams, and the derivation of their keys.

A key is used for exactly one keystream, so the counter may start at zero
(NIST SP 800-38A, section 6.5: the counter blocks must be unique under one key).
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from .encoding import canonical, digest
from .errors import Reason, RemoteError
from .kernels import add_streams
from .ring import Layout, RingVector

SEED_BYTES = 32
_FIELD = 2**255 - 19  # of curve25519
# The points of order 1, 2, 4 and 8 of the curve and 1, 2 and 4 of its twist, by their coordinate u. With any
# private key, a multiple of 8, each of them gives zero.
_SMALL_ORDER = frozenset(
    {
        0,
        1,
        _FIELD - 1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
    }
)


class Secret(bytes):
    """Bytes that do not print themselves and compare in constant time."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<secret, {len(self)} bytes>"

    def __str__(self) -> str:
        return repr(self)

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, bytes) and hmac.compare_digest(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        raise TypeError("a secret is not a key of a table")


def expand(key: Secret, layout: Layout) -> RingVector:
    """F(key): the keystream of a 32-byte key as a vector of `layout`."""
    vector = layout.zeros()
    add_keystreams(vector, (key,))
    return vector


def add_keystreams(total: RingVector, plus: Iterable[Secret], minus: Iterable[Secret] = ()) -> None:
    """Adds F(key) for each key of `plus`, and subtracts it for each of `minus`, in place."""
    streams = [[keystream(key) for key in keys] for keys in (plus, minus)]
    add_streams((total.body, total.wide), *streams)


def keystream(key: Secret) -> CipherContext:
    """F(key) in pieces, as what the cipher makes of zeros."""
    return Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()


def self_key(self_seed: bytes, ticket_digest: bytes, peer: str) -> Secret:
    """Key of the self mask, derived from b_i."""
    return _derive(self_seed, ticket_digest, canonical("self mask", peer))


def pair_key(
    private: X25519PrivateKey, public: bytes, ticket_digest: bytes, one: str, other: str
) -> Secret:
    """Key of the pair mask s_ij, the same from both ends; `public` is the key of `other`.

    Raises RemoteError(MALFORMED) for a public key of small order (RFC 7748, section 6.1).
    """
    shared = _agree(private, public, other)
    low, high = sorted((one, other))
    return _derive(shared, ticket_digest, canonical("pair mask", low, high))


def check_public_key(public: bytes, peer: str) -> None:
    """RemoteError(MALFORMED) for a public key of small order or size, before anyone counts on it."""
    # RFC 7748, section 5: the last bit does not count.
    u = int.from_bytes(public, "little") % 2**255
    if len(public) != 32 or u % _FIELD in _SMALL_ORDER:
        raise _small_order(peer)


def commitment(self_seed: bytes, ticket_digest: bytes, peer: str) -> bytes:
    """Hash commitment to b_i: binding as SHA-256 is, hiding because b_i has 256 random bits."""
    return digest("self commitment", ticket_digest, peer, bytes(self_seed))


def _agree(private: X25519PrivateKey, public: bytes, peer: str) -> bytes:
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:
        raise _small_order(peer) from error


def _small_order(peer: str) -> RemoteError:
    return RemoteError(Reason.MALFORMED, "X25519 public key of small order", peer=peer)


def _derive(material: bytes, salt: bytes, info: bytes) -> Secret:
    return Secret(HKDF(SHA256(), SEED_BYTES, salt=salt, info=info).derive(material))
