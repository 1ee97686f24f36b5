"""The registry's CA and its join folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtensionOID

from smpcfl.base import files
from smpcfl.net import certificates
from smpcfl.net.certificates import IdentityError, Role
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.registry import authority
from smpcfl.registry.authority import Authority
from support.enrolled import Deployment


def test_who_sees_the_ca_certificate_finds_the_token_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, seen = files.write_private, []

    def watched(path: Path, *content: bytes, mode: int = 0o600) -> None:
        write(path, *content, mode=mode)
        if path.name == "ca.pem" and path.parent.parent == tmp_path / "join":
            seen.append((path.parent.name, path.with_name("token").exists()))

    monkeypatch.setattr(files, "write_private", watched)
    Authority(tmp_path / "state", tmp_path / "join")
    assert sorted(seen) == [("aggregator", True), ("peer", True)]


@pytest.mark.parametrize(
    "host",
    [
        "peer-b.peer.smpcfl",
        "peer-b.peer.smpcfl.",
        "peer-b.peer.SMPCFL",
        "Registry.Registry.Smpcfl.",
        "*.peer.SMPCFL",
        "*.example.org",
        "*",
        "peer-b.peer.smpcfl.example.org",
        "peer-b.peer.smpcfl\0.example.org",
        "x.peer-b.peer.smpcfl",
        "aggregator.aggregator.SMPCFL",
    ],
)
def test_no_host_of_the_aggregator_may_pass_for_a_role(tmp_path: Path, host: str) -> None:
    with pytest.raises(RemoteError, match="no certificates for this host") as caught:
        Deployment(tmp_path).certificate(Role.AGGREGATOR, "aggregator", ["localhost", host])
    assert caught.value.reason is Reason.MALFORMED


def test_the_aggregator_gets_its_hosts(tmp_path: Path) -> None:
    hosts = ["localhost", "Some_Host.lan", "smpcfl.example.org", "10.0.0.1"]
    deployment = Deployment(tmp_path)
    der = deployment.certificate(Role.AGGREGATOR, "aggregator", hosts)
    names = (
        x509.load_der_x509_certificate(der)
        .extensions.get_extension_for_class(x509.SubjectAlternativeName)
        .value
    )
    assert names.get_values_for_type(x509.DNSName) == ["aggregator.aggregator.smpcfl", *hosts[:3]]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == hosts[3:]
    assert certificates.check_certificate(der, deployment.ca).role is Role.AGGREGATOR


@pytest.mark.parametrize(
    "extension", [b"", b"\xff" * 20, b"\x30\x03\x82\x01\xff", b"\x30\x02\x99\x00"]
)
def test_a_request_with_names_that_cannot_be_read_is_refused(
    tmp_path: Path, extension: bytes
) -> None:
    names = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, extension)
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    request = request.add_extension(names, critical=False)
    csr = request.sign(certificates.new_key(), SHA256()).public_bytes(serialization.Encoding.DER)
    authority = Deployment(tmp_path).authority
    token = (tmp_path / "join" / "aggregator" / "token").read_text()
    with pytest.raises(RemoteError, match="signing request") as caught:
        authority.enrol(token, csr, "aggregator", "aggregator")
    assert caught.value.reason is Reason.MALFORMED


@pytest.mark.parametrize("second", ["b.peer.SMPCFL", "b.peer.smpcfl.", "*.peer.Smpcfl", "x.smpcfl"])
def test_a_certificate_with_a_second_role_in_any_spelling_is_nobodys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, second: str
) -> None:
    monkeypatch.setattr(authority, "_hosts", lambda request, own: [x509.DNSName(second)])
    deployment = Deployment(tmp_path)
    der = deployment.certificate(Role.AGGREGATOR, "aggregator")
    with pytest.raises(IdentityError, match="exactly one role"):
        certificates.check_certificate(der, deployment.ca)
