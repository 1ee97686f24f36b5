"""How a peer proves that one of Flower's nodes is its own: its certificate, and what it signs with that key.

Twice, over two things that Flower knows a node by. `node_key_bytes`, before the SuperLink lets the node's key
in; `node_bytes`, with the node's number and the instance of its agent, when a run asks.
"""

from __future__ import annotations

from cryptography import x509

from ..protocol.encoding import canonical
from ..protocol.errors import Reason, RemoteError
from ..protocol.signing import verify
from .certificates import IdentityError, Member, Role, check_certificate


def node_key_bytes(public_key: bytes) -> bytes:
    """What a peer signs for its node's key; `public_key` in PEM, as in the message."""
    return canonical("node key", public_key)


def node_bytes(node: int, instance: bytes) -> bytes:
    """What a peer signs to say that Flower's `node` is its own; `instance`: of its agent."""
    return canonical("node", node, instance)


def check_proof(
    certificate: bytes, signed: bytes, signature: bytes, ca: x509.Certificate
) -> Member:
    """The peer whose certificate (DER) this is. RemoteError unless it is one of `ca` and has signed this."""
    try:
        member = check_certificate(certificate, ca)
    except IdentityError as error:
        raise RemoteError(Reason.BAD_SIGNATURE, str(error)) from error
    if member.role is not Role.PEER:
        raise RemoteError(Reason.ROLE, peer=member.name, expected="peer", found=member.role)
    if not verify(member.key, signed, signature):
        raise RemoteError(Reason.BAD_SIGNATURE, "a node that it did not sign for", peer=member.name)
    return member
