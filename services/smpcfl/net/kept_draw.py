"""The registry's draw as a peer or the aggregator keeps it: checked, and on disk before it is gone by."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from smpc.v1 import registry_pb2 as pb

from ..base.files import StorageError, write_private
from ..protocol.draw import Group, SignedGroup
from ..protocol.errors import Reason, RemoteError
from ..protocol.grouping import Drawn, check_group
from ..protocol.signing import REGISTRY, verify
from ..protocol.ticket import MAX_COHORT

log = logging.getLogger("smpcfl.directory")


def ca_digest(ca: x509.Certificate) -> bytes:
    """SHA-256 of the certificate, 32 bytes: names the deployment in a draw."""
    return ca.fingerprint(SHA256())


class KeptDraw(Drawn):
    """The newest draw in `path`, of the deployment of `ca`. StorageError if the file is damaged.

    The file holds the registry's own answer, which is checked again whenever it is read.
    """

    def __init__(
        self, path: Path, ca: x509.Certificate, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__()
        self._path = path
        self._ca = ca
        self._clock = clock
        try:
            reply = pb.DrawReply.FromString(path.read_bytes())
            groups = tuple(self._verified(item) for item in reply.groups)
        except FileNotFoundError:
            return
        except Exception as error:
            raise StorageError(
                f"{path} is damaged ({error}): it holds the newest draw that was seen; restore it, or remove"
                " it to take the registry's word for the next one"
            ) from error
        self.number, self.groups = reply.draw, groups

    def take(self, reply: pb.DrawReply) -> bool:
        """Goes by the draw that the registry tells from now on; False if it is the one that is known.

        RemoteError for one that is older, or not as it has to be; OSError if it cannot be kept. Then nothing
        changes.
        """
        if reply.draw == self.number and len(reply.groups) == len(self.groups):
            return False
        if reply.draw < self.number:
            raise RemoteError(
                Reason.STALE_DRAW, peer=REGISTRY, expected=f">= {self.number}", found=reply.draw
            )
        groups = tuple(self._verified(item) for item in reply.groups)
        for group in groups:
            if group.draw != reply.draw:
                raise RemoteError(Reason.MALFORMED, "groups of different draws", peer=REGISTRY)
            check_group(group, ca_digest(self._ca), self.number, self._clock())
        write_private(self._path, reply.SerializeToString())
        self.number, self.groups = reply.draw, groups
        return True

    def _verified(self, message: pb.SignedGroup) -> Group:
        signed = group_from_proto(message)
        key = self._ca.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not verify(
            key, signed.group.signed_bytes, signed.signature
        ):
            raise RemoteError(Reason.BAD_SIGNATURE, "draw", peer=REGISTRY)
        return signed.group


def group_to_proto(signed: SignedGroup) -> pb.SignedGroup:
    group = signed.group
    return pb.SignedGroup(
        ca=group.ca,
        draw=group.draw,
        issued=group.issued,
        expires=group.expires,
        roster=group.roster,
        left_out=group.left_out,
        cohort_digest=group.cohort_digest,
        group=group.group,
        groups=group.groups,
        members=[pb.GroupMember(peer=peer, fingerprint=key) for peer, key in group.members],
        signature=signed.signature,
    )


def group_from_proto(message: pb.SignedGroup) -> SignedGroup:
    """RemoteError(MALFORMED) for what no draw gives."""
    if len(message.members) > MAX_COHORT:
        raise RemoteError(
            Reason.MALFORMED, "draw", expected=f"<= {MAX_COHORT}", found=len(message.members)
        )
    group = Group(
        message.ca,
        message.draw,
        message.issued,
        message.expires,
        message.roster,
        message.left_out,
        message.cohort_digest,
        message.group,
        message.groups,
        tuple((member.peer, member.fingerprint) for member in message.members),
    )
    return SignedGroup(group, message.signature)
