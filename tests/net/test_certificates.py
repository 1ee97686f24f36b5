"""The certificates that a process knows, and which of them count."""

from __future__ import annotations

import datetime
import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from smpcfl.net import certificates
from smpcfl.net.certificates import Members, Role
from smpcfl.protocol import signing
from support.enrolled import Deployment


def test_an_older_certificate_does_not_replace_a_newer_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = Deployment(tmp_path)
    newer = deployment.certificate(Role.PEER, "peer-a")
    monkeypatch.setattr(certificates, "BACKDATE", datetime.timedelta(hours=1))
    older = deployment.certificate(Role.PEER, "peer-a")
    members = Members(deployment.ca)
    for der, stands in ((older, older), (newer, newer), (older, newer)):
        members.add(der)
        found = members.get("peer-a")
        assert found is not None
        assert found.der == stands


# -- pinned members -----------------------------------------------------------------------------------------


def members_of(deployment: Deployment, *names: str) -> Members:
    members = Members(deployment.ca)
    for name in names:
        members.add(deployment.certificate(Role.PEER, name))
    members.add(deployment.certificate(Role.AGGREGATOR, "aggregator"))
    return members


def test_only_a_pinned_peer_with_its_pinned_key_counts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    deployment = Deployment(tmp_path)
    members = members_of(deployment, "peer-a", "peer-b", "peer-c")
    assert all(members.get(name) for name in ("peer-a", "peer-b", "peer-c"))
    members.pinned = {
        "peer-a": certificates.fingerprint(deployment.key("peer-a").public_key()),
        "peer-b": "0" * 64,
    }
    assert members.get("peer-a") is not None
    for _ in range(2):
        assert members.get("peer-b") is None, "with another key"
        assert members.get("peer-c") is None, "not pinned"
    assert members.get("aggregator") is not None, "peers alone are pinned"
    said = [record for record in caplog.records if "does not count" in record.getMessage()]
    assert len(said) == 1
    shown = certificates.fingerprint(deployment.key("peer-b").public_key())
    assert f"peer-b shows a key with fingerprint {shown}" in said[0].getMessage()


def test_who_does_not_count_has_no_signature_that_does(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    members = members_of(deployment, "peer-a")
    sign = signing.signer(deployment.key("peer-a"))
    assert members.verify("peer-a", b"m", sign(b"m"))
    members.pinned = {"peer-a": "0" * 64}
    assert not members.verify("peer-a", b"m", sign(b"m"))


def test_a_renewed_certificate_of_the_same_key_stays_pinned(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    members = members_of(deployment, "peer-a")
    found = members.get("peer-a")
    assert found is not None
    members.pinned = {"peer-a": found.fingerprint}
    members.add(deployment.certificate(Role.PEER, "peer-a"))
    assert members.get("peer-a") is not None


def test_a_fingerprint_is_that_of_the_public_key_alone(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    key = deployment.key("peer-a").public_key()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert certificates.fingerprint(key) == hashlib.sha256(spki).hexdigest()
