"""Renewal, revocation, and who may take a peer id. The registry's side, with a clock of the test's own."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from smpc.v1 import registry_pb2 as pb
from smpcfl.base.metrics import Metrics
from smpcfl.base.state import State
from smpcfl.net import certificates
from smpcfl.net.certificates import IdentityError, Members, Role
from smpcfl.protocol.errors import LocalError, Reason, RemoteError
from smpcfl.protocol.signing import signer
from smpcfl.registry import authority, registry_service
from smpcfl.registry.authority import Authority, make_token, registry_state, reopen, revoke
from smpcfl.registry.ca import load_or_make_ca
from smpcfl.registry.failed_enrolments import FAILURES
from smpcfl.registry.registry_service import EnrolmentService, RegistryService
from smpcfl.registry.roster import Roster
from support.enrolled import draws_of

HOUR_S = 3600.0


class Registry:
    """One whose clock stands where the test puts it; certificates live an hour."""

    def __init__(self, folder: Path) -> None:
        self.now = 0.0
        self.state, self.join = folder / "state", folder / "join"
        self.authority = Authority(
            self.state, self.join, certificate_s=HOUR_S, clock=lambda: self.now
        )

    def csr(self, key: ec.EllipticCurvePrivateKey, name: str = "a") -> bytes:
        return certificates.signing_request(key, Role.PEER, name)

    def enrol(self, key: ec.EllipticCurvePrivateKey, name: str = "a") -> bytes:
        token = (self.join / "peer" / "token").read_text()
        return certificates.der(
            self.authority.enrol(token, self.csr(key, name), Role.PEER.value, name)
        )


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path)


def test_a_certificate_is_renewed_for_its_own_key_alone(registry: Registry) -> None:
    key, other = certificates.new_key(), certificates.new_key()
    old = registry.enrol(key)
    new = registry.authority.renew(old, registry.csr(key))
    assert new.public_key() == key.public_key()
    assert (
        certificates.check_certificate(certificates.der(new), registry.authority.certificate).name
        == "a"
    )
    with pytest.raises(RemoteError, match="another key"):
        registry.authority.renew(old, registry.csr(other))
    # The name is the certificate's, whatever the request says.
    taken = registry.authority.renew(old, registry.csr(key, "b"))
    assert (
        certificates.check_certificate(certificates.der(taken), registry.authority.certificate).name
        == "a"
    )


def test_renewal_is_due_after_two_thirds_of_the_life(registry: Registry) -> None:
    certificate = x509.load_der_x509_certificate(registry.enrol(certificates.new_key()))
    left = (certificates.renewal(certificate) - certificates.now()).total_seconds()
    assert left == pytest.approx(HOUR_S * 2 / 3, abs=5)


def test_a_peer_id_is_nobody_elses_while_its_certificate_lives(registry: Registry) -> None:
    key, other = certificates.new_key(), certificates.new_key()
    registry.enrol(key)
    registry.now = HOUR_S - 1
    with pytest.raises(RemoteError) as caught:
        registry.enrol(other)
    assert caught.value.reason is Reason.NAME_TAKEN
    registry.enrol(key)  # the same again, and so for another hour
    registry.now = 2 * HOUR_S - 2
    with pytest.raises(RemoteError):
        registry.enrol(other)
    registry.now = 2 * HOUR_S
    registry.enrol(other)


def test_whoever_is_revoked_comes_back_under_no_id_and_with_no_token(registry: Registry) -> None:
    key = certificates.new_key()
    certificate = registry.enrol(key)
    token = (registry.join / "peer" / "token").read_text()
    revoke(registry.state, "a")
    assert registry.authority.claims.revoked() == {"a"}
    with pytest.raises(RemoteError, match="was withdrawn"):
        registry.authority.enrol(token, registry.csr(key), "peer", "a")
    # It may still see the join folder.
    registry.authority.keep_tokens()
    assert not (registry.join / "peer" / "token").exists()
    assert (registry.join / "aggregator" / "token").exists()
    own = make_token(registry.state, "", HOUR_S)
    registry.authority.enrol(own, registry.csr(certificates.new_key(), "c"), "peer", "c")
    reopen(registry.state)
    registry.authority.keep_tokens()
    attempts = [
        lambda: registry.enrol(key),
        lambda: registry.enrol(key, "b"),
        lambda: registry.enrol(certificates.new_key()),
        lambda: registry.authority.renew(certificate, registry.csr(key)),
    ]
    for attempt in attempts:
        with pytest.raises(RemoteError) as caught:
            attempt()
        assert caught.value.reason is Reason.REVOKED
    registry.enrol(certificates.new_key(), "d")
    # Another start knows it as well.
    assert Authority(registry.state, registry.join).claims.revoked() == {"a"}


def test_only_a_known_peer_is_revoked(registry: Registry) -> None:
    registry.enrol(certificates.new_key())
    registry.authority.claims.claim("aggregator", "02aa", HOUR_S, 0.0)
    for name in ("b", "../ca.pem", "", "aggregator"):
        with pytest.raises(LocalError, match="known are a"):
            revoke(registry.state, name)


def test_an_id_that_a_token_was_made_for_is_nobody_elses(registry: Registry) -> None:
    token = make_token(registry.state, "b", HOUR_S)
    with pytest.raises(RemoteError, match="reserved") as caught:
        registry.enrol(certificates.new_key(), "b")
    assert caught.value.reason is Reason.NAME_TAKEN
    key = certificates.new_key()
    registry.authority.enrol(token, registry.csr(key, "b"), "peer", "b")
    registry.now = 2 * HOUR_S  # expired: still not for anybody
    with pytest.raises(RemoteError):
        registry.enrol(certificates.new_key(), "b")


def test_there_is_one_aggregator(registry: Registry) -> None:
    token = (registry.join / "aggregator" / "token").read_text()

    def enrol(key: ec.EllipticCurvePrivateKey) -> None:
        csr = certificates.signing_request(key, Role.AGGREGATOR, "aggregator")
        registry.authority.enrol(token, csr, "aggregator", "aggregator")

    key = certificates.new_key()
    enrol(key)
    enrol(key)
    with pytest.raises(RemoteError, match="held by another key"):
        enrol(certificates.new_key())


def test_a_damaged_claim_is_named(registry: Registry) -> None:
    registry.enrol(certificates.new_key())
    (registry.state / "claims" / "a").write_text("{")
    with pytest.raises(LocalError, match=r"claims/a is damaged .* remove it"):
        registry.enrol(certificates.new_key())


def test_what_the_registry_could_not_read_is_not_written(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert registry_state(registry.state) == registry.state
    monkeypatch.setattr(authority.os, "geteuid", lambda: registry.state.stat().st_uid + 1)
    with pytest.raises(LocalError, match="run this as that user"):
        registry_state(registry.state)
    with pytest.raises(LocalError, match="no registry keeps its state"):
        registry_state(registry.join)


def test_members_forget_whoever_is_revoked_or_expired(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = certificates.new_key()
    members = Members(registry.authority.certificate)
    der = registry.enrol(key)
    members.add(der)
    signature = signer(key)(b"message")
    assert members.verify("a", b"message", signature)
    members.revoked = frozenset({"a"})
    assert members.get("a") is None
    assert not members.verify("a", b"message", signature)
    with pytest.raises(IdentityError, match="revoked"):
        members.add(der)
    members.revoked = frozenset()
    assert members.verify("a", b"message", signature)
    later = certificates.now() + datetime.timedelta(hours=2)
    monkeypatch.setattr(certificates, "now", lambda: later)
    assert members.get("a") is None
    with pytest.raises(IdentityError, match="valid from"):
        members.add(der)


async def test_the_registry_hears_nothing_from_a_revoked_peer_and_tells_the_others(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = certificates.new_key()
    shown = registry.enrol(key)
    monkeypatch.setattr(registry_service.rpc, "caller", lambda context: (Role.PEER, "a"))
    monkeypatch.setattr(registry_service.rpc, "caller_certificate", lambda context: shown)
    roster = Roster(State(tmp_path).indices, 1)
    metrics = Metrics("seeded")
    served = RegistryService(
        registry.authority.own_identity([]),
        registry.authority,
        roster,
        draws_of(registry.authority, tmp_path),
        metrics,
    )
    context = Context()
    request = pb.RegisterRequest(address="10.0.0.2:9300", metrics_address="10.0.0.2:9100")
    await served.Register(request, context)
    reply = await served.Renew(pb.RenewRequest(csr=registry.csr(key)), context)
    assert [entry.certificate for entry in roster.entries(0.0)] == [reply.certificate]
    before = roster.version
    revoke(registry.state, "a")
    roster.revoke(registry.authority.claims.revoked())
    assert roster.version > before
    assert served._whole().revoked == ["a"]
    assert not served._whole().entries
    calls = {
        "Register": request,
        "Heartbeat": pb.HeartbeatRequest(),
        "Lookup": pb.LookupRequest(),
        "Renew": pb.RenewRequest(csr=registry.csr(key)),
        "Draw": pb.DrawRequest(),
    }
    for name, message in calls.items():
        with pytest.raises(Aborted, match="revoked"):
            await getattr(served, name)(message, context)
    assert metrics.rejected.labels(reason="revoked")._value.get() == len(calls)


async def test_who_fails_to_enrol_too_often_is_not_listened_to(registry: Registry) -> None:
    metrics, now = Metrics("seeded"), [0.0]
    served = EnrolmentService(registry.authority, metrics, lambda: now[0])
    key = certificates.new_key()
    good = (registry.join / "peer" / "token").read_text()

    async def attempt(token: str, context: Context) -> None:
        request = pb.EnrolRequest(token=token, csr=registry.csr(key), role="peer", name="a")
        await served.Enrol(request, context)

    for _ in range(FAILURES):
        with pytest.raises(Aborted, match="bad_token"):
            await attempt("wrong", Context())
    with pytest.raises(Aborted, match=r"rate_limited.*wait 60 s"):
        await attempt("wrong", Context())
    with pytest.raises(Aborted, match="bad_token"):
        await attempt("wrong", Context("ipv4:10.0.0.8:1"))
    await attempt(good, Context())  # others may be behind the same address
    now[0] = 60.0
    with pytest.raises(Aborted, match="bad_token"):
        await attempt("wrong", Context())
    assert metrics.rejected.labels(reason="bad_token")._value.get() == FAILURES + 2
    assert metrics.rejected.labels(reason="rate_limited")._value.get() == 1


async def test_a_token_can_be_asked_about_as_often_as_used_and_stays_as_it_is(
    registry: Registry,
) -> None:
    served = EnrolmentService(registry.authority, Metrics("seeded"), lambda: 0.0)
    until = registry.now + 60.0
    good = make_token(registry.state, "", until)
    kept = [path for path in registry.state.rglob("*") if path.is_file()]
    before = [path.read_bytes() for path in kept]

    async def ask(token: str, role: str = "peer", context: Context | None = None) -> Any:
        request = pb.CheckTokenRequest(token=token, role=role, name="a")
        return await served.CheckToken(request, context or Context())

    assert (await ask(good)).until_ms == int(until * 1000)
    assert [path.read_bytes() for path in kept] == before
    with pytest.raises(Aborted, match="no certificates for role"):
        await ask(good, "registry")
    for _ in range(FAILURES - 1):
        with pytest.raises(Aborted, match="bad_token"):
            await ask("wrong")
    with pytest.raises(Aborted, match="rate_limited"):
        await ask("wrong")
    request = pb.EnrolRequest(token="wrong", csr=b"", role="peer", name="a")
    with pytest.raises(Aborted, match="rate_limited"):
        await served.Enrol(request, Context())
    assert (await ask(good)).until_ms, "good tokens are heard all the same"


class Aborted(Exception):
    pass


class Context:
    """What the handlers use of gRPC's."""

    def __init__(self, peer: str = "ipv4:10.0.0.7:41000") -> None:
        self._peer = peer

    def peer(self) -> str:
        return self._peer

    def set_trailing_metadata(self, metadata: Any) -> None:
        pass

    async def abort(self, code: Any, details: str) -> None:
        raise Aborted(details)


# -- a CA that the operator brings ---------------------------------------------------------------------


def own_ca(
    folder: Path, *, ca: bool = True, self_signed: bool = True
) -> ec.EllipticCurvePrivateKey:
    key = ec.generate_private_key(ec.SECP384R1())
    name = [
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, who)]) for who in ("us", "them")
    ]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name[0])
        .issuer_name(name[0 if self_signed else 1])
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(certificates.now() - datetime.timedelta(days=1))
        .not_valid_after(certificates.now() + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    folder.mkdir(exist_ok=True)
    State(folder).ca_key.write_bytes(certificates.key_pem(key))
    State(folder).ca.write_bytes(certificates.pem(certificate))
    return key


def test_a_ca_of_the_operators_is_used(tmp_path: Path) -> None:
    key = own_ca(tmp_path / "state")
    registry = Registry(tmp_path)
    assert registry.authority.certificate.public_key() == key.public_key()
    member = certificates.check_certificate(
        registry.enrol(certificates.new_key()), registry.authority.certificate
    )
    assert member.name == "a"


def test_a_ca_that_is_none_is_refused(tmp_path: Path) -> None:
    own_ca(tmp_path, ca=False)
    with pytest.raises(IdentityError, match="CA:TRUE"):
        load_or_make_ca(tmp_path)
    own_ca(tmp_path, self_signed=False)
    with pytest.raises(IdentityError, match="not self-signed"):
        load_or_make_ca(tmp_path)
    own_ca(tmp_path)
    State(tmp_path).ca_key.write_bytes(certificates.key_pem(certificates.new_key()))
    with pytest.raises(IdentityError, match="not the certificate of the key"):
        load_or_make_ca(tmp_path)
    before = State(tmp_path).ca.read_bytes()
    State(tmp_path).ca_key.unlink()
    with pytest.raises(IdentityError, match="but not its key"):
        load_or_make_ca(tmp_path)
    assert State(tmp_path).ca.read_bytes() == before


def test_a_ca_that_was_cut_off_while_it_was_made_is_made_whole(tmp_path: Path) -> None:
    key, _ = load_or_make_ca(tmp_path)
    State(tmp_path).ca.unlink()
    again, certificate = load_or_make_ca(tmp_path)
    assert again.public_key() == key.public_key() == certificate.public_key()
