"""A node is a peer's if the peer's own certificate and signature say so, and nobody else's do."""

from __future__ import annotations

from pathlib import Path

import pytest

from smpcfl.net.certificates import Role
from smpcfl.net.node_proof import check_proof, node_key_bytes
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.signing import AGGREGATOR, signer
from support.enrolled import Deployment

SIGNED = node_key_bytes(b"the node's key")


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return Deployment(tmp_path / "ours")


def refused(certificate: bytes, signature: bytes, deployment: Deployment) -> RemoteError:
    with pytest.raises(RemoteError) as error:
        check_proof(certificate, SIGNED, signature, deployment.ca)
    return error.value


def test_a_peer_that_signed_for_the_node_has_it(deployment: Deployment) -> None:
    certificate = deployment.certificate(Role.PEER, "peer-a")
    signature = signer(deployment.key("peer-a"))(SIGNED)
    assert check_proof(certificate, SIGNED, signature, deployment.ca).name == "peer-a"


@pytest.mark.parametrize(
    ("holder", "signed"),
    [("peer-b", SIGNED), ("peer-a", node_key_bytes(b"another node's key"))],
    ids=["another peer's signature", "a signature for another node"],
)
def test_a_signature_of_another_does_not_do(
    deployment: Deployment, holder: str, signed: bytes
) -> None:
    certificate = deployment.certificate(Role.PEER, "peer-a")
    error = refused(certificate, signer(deployment.key(holder))(signed), deployment)
    assert (error.reason, error.peer) == (Reason.BAD_SIGNATURE, "peer-a")


def test_a_certificate_of_another_deployment_does_not_do(
    deployment: Deployment, tmp_path: Path
) -> None:
    other = Deployment(tmp_path / "other")
    certificate = other.certificate(Role.PEER, "peer-a")
    error = refused(certificate, signer(other.key("peer-a"))(SIGNED), deployment)
    assert error.reason is Reason.BAD_SIGNATURE


def test_only_a_peer_has_nodes(deployment: Deployment) -> None:
    certificate = deployment.certificate(Role.AGGREGATOR, AGGREGATOR)
    error = refused(certificate, signer(deployment.key(AGGREGATOR))(SIGNED), deployment)
    assert (error.reason, error.peer) == (Reason.ROLE, AGGREGATOR)
