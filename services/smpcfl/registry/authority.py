"""Issues certificates against a join token, renews them, and takes them back."""

from __future__ import annotations

import datetime
import logging
import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ..base import files
from ..base.config import Settings
from ..base.log_events import LogEvent, about
from ..base.state import AuthorityFolder, JoinFolder, State
from ..net import certificates
from ..net.certificates import Identity, IdentityError, Role
from ..protocol.errors import LocalError, Reason, RemoteError
from ..protocol.signing import REGISTRY
from .ca import keep_given_ca, load_ca_and_key, load_or_make_ca
from .claims import Claims
from .tokens import GivenToken, JoinToken, Tokens, given_path, read_given

log = logging.getLogger("smpcfl.registry")
_HOST = re.compile(
    r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?", re.ASCII | re.IGNORECASE
)  # and so no wildcard
_DAY_S = 86400.0
_NEARLY = 0.8  # of the ids that shared tokens may enrol: from here on it is a warning


class Authority:
    """CA key and certificate in `state`, join tokens by role in `join`/<role>/token; or as `given`.

    `join`/<role> also gets ca.pem, after the token: where it stands, a machine can enrol. A role whose token
    is given has no such folder. Certificates live for `certificate_s` seconds, join tokens for `token_s`;
    those of peers enrol `token_peers` different ids, all together and for good. `clock`: seconds since the
    epoch. IdentityError for a CA or a token, given or kept, that is none.
    """

    def __init__(
        self,
        state: Path,
        join: Path,
        *,
        given: AuthorityFolder | None = None,
        certificate_s: float = _DAY_S,
        token_s: float = _DAY_S,
        token_peers: int = Settings.token_peers,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._state = state
        self._life = datetime.timedelta(seconds=certificate_s)
        self._token_peers = token_peers
        self._clock = clock
        if given is None:
            self.key, self.certificate = load_or_make_ca(state)
        else:
            self.key, self.certificate = load_ca_and_key(given.path)
            keep_given_ca(state, self.certificate)
        self.claims = Claims(state)
        self._tokens = Tokens(State(state).tokens)
        self._join_tokens: list[JoinToken | GivenToken] = []
        folders = []
        for role in (Role.PEER, Role.AGGREGATOR):
            if (brought := given_path(given, role)) is not None:
                self._join_tokens.append(GivenToken(self._tokens, role, brought, token_s))
            else:
                files.check(join / role, files.LEAST_BYTES, "join")
                folder = JoinFolder(join / role)
                self._join_tokens.append(JoinToken(self._tokens, role, folder.token, token_s))
                folders.append(folder)
        _check_differ(self._join_tokens)
        self.keep_tokens()
        for folder in folders:
            files.write_private(folder.ca, certificates.pem(self.certificate), mode=0o644)

    def keep_tokens(self) -> None:
        """Replaces the join tokens in good time; to be called now and then."""
        for token in self._join_tokens:
            if token.role is Role.PEER and State(self._state).join_folder_closed.exists():
                token.withdraw()
                continue
            try:
                token.keep_fresh(self._clock())
            except IdentityError as error:  # others enrol with other tokens, and renew
                log.error("nobody enrols: %s", error, extra=about(LogEvent.TOKEN_WITHDRAWN))

    def own_identity(self, hosts: Sequence[str]) -> Identity:
        """The registry's identity: the key that it keeps, with a new certificate."""
        path = State(self._state).key
        key = certificates.load_key(path) if path.exists() else certificates.new_key()
        files.write_private(path, certificates.key_pem(key))
        certificate = self._own_certificate(key, hosts)
        return Identity(Role.REGISTRY, REGISTRY, key, certificate, self.certificate)

    def renew_own(self, own: Identity, hosts: Sequence[str]) -> None:
        own.certificate = self._own_certificate(own.key, hosts)

    def _own_certificate(
        self, key: ec.EllipticCurvePrivateKey, hosts: Sequence[str]
    ) -> x509.Certificate:
        request = certificates.signing_request(key, Role.REGISTRY, REGISTRY, hosts)
        return self._issue(x509.load_der_x509_csr(request), Role.REGISTRY, REGISTRY)

    def enrolled(self) -> dict[str, bytes]:
        """SHA-256 of the key of each peer that is enrolled, by id; whether it is here or not."""
        found = {}
        for name, key in self.claims.enrolled(self._clock()).items():
            point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), bytes.fromhex(key))
            found[name] = bytes.fromhex(certificates.fingerprint(point))
        return found

    def enrol(self, token: str, csr: bytes, role: str, name: str) -> x509.Certificate:
        """A certificate for the key in `csr`; RemoteError for a wrong token, role or request."""
        if role not in (Role.PEER, Role.AGGREGATOR):
            raise RemoteError(Reason.ROLE, f"no certificates for role {role!r}")
        _check_name(role, name)
        request = _load_request(csr, name)
        key = _point(request).hex()
        found = self._tokens.check(token, Role(role), name, key, self._clock())
        self.claims.check(name, key)
        if self.claims.is_reserved(name) and not found.name:
            raise RemoteError(Reason.NAME_TAKEN, "reserved for a token of its own", peer=name)
        if found.is_shared and role == Role.PEER:
            self._count(name)
        self._claim(name, key)
        self._tokens.use(token, found, key)
        return self._issue(request, Role(role), name)

    def check_token(self, token: str, role: str, name: str) -> float:
        """Until when a token is good; RemoteError if `enrol` would refuse it. Nothing is changed.

        `name`: empty if the id is not chosen yet, and then the token has to be for any.
        """
        if role not in (Role.PEER, Role.AGGREGATOR):
            raise RemoteError(Reason.ROLE, f"no certificates for role {role!r}")
        if name:
            _check_name(role, name)
        return self._tokens.check(token, Role(role), name, "", self._clock()).until

    def renew(self, certificate: bytes, csr: bytes) -> x509.Certificate:
        """A new certificate for the holder of `certificate` (DER); `csr` has to be for the same key."""
        try:
            member = certificates.check_certificate(certificate, self.certificate)
        except IdentityError as error:
            raise RemoteError(Reason.ROLE, str(error)) from error
        request = _load_request(csr, member.name)
        key = _point(request).hex()
        if key != _compressed(member.key).hex():
            raise RemoteError(Reason.MALFORMED, "renewal for another key", peer=member.name)
        self.claims.check(member.name, key)
        self._claim(member.name, key)
        return self._issue(request, member.role, member.name)

    def _count(self, name: str) -> None:
        count = self.claims.count_shared(name, self._token_peers)
        level = logging.WARNING if count >= _NEARLY * self._token_peers else logging.INFO
        log.log(
            level,
            "%s comes with the join folder's token, which has made %d of %d peer ids"
            " (SMPCFL_TOKEN_PEERS)",
            name,
            count,
            self._token_peers,
            extra=about(LogEvent.TOKEN_USED, peer=name),
        )

    def _claim(self, name: str, key: str) -> None:
        now = self._clock()
        self.claims.claim(name, key, now + self._life.total_seconds(), now)

    def _issue(
        self, request: x509.CertificateSigningRequest, role: Role, name: str
    ) -> x509.Certificate:
        names: list[x509.GeneralName] = [x509.DNSName(certificates.tls_name(role, name))]
        if role is not Role.PEER:
            names += _hosts(request, own=certificates.tls_name(role, name))
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self.certificate.subject)
            .public_key(request.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - certificates.BACKDATE)
            .not_valid_after(now + self._life)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage(
                    [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
                ),
                critical=False,
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                critical=False,
            )
            .sign(self.key, SHA256())
        )


def _check_differ(tokens: Sequence[JoinToken | GivenToken]) -> None:
    given = [token.token for token in tokens if isinstance(token, GivenToken)]
    if len(given) != len(set(given)):
        raise IdentityError(
            "peer-token and aggregator-token are the same: then each peer could enrol as the aggregator"
        )


def registry_state(folder: Path) -> Path:
    """`folder`, if a registry keeps its state there; LocalError else."""
    if not State(folder).tokens.exists():
        raise LocalError(
            f"no registry keeps its state in {folder}: run this where `smpcfl registry` runs"
            " (docker compose exec registry smpcfl ...), or give --state"
        )
    if (owner := folder.stat().st_uid) != os.geteuid():
        raise LocalError(
            f"{folder} is user {owner}'s, and this is {os.geteuid()}: run this as that user, because the"
            " registry has to read what is written"
        )
    return folder


def make_token(state: Path, name: str, until: float) -> str:
    """A join token for one machine, in the registry's folder `state`; for peer `name` alone unless empty."""
    if name:
        Claims(state).reserve(name)
    return Tokens(State(state).tokens).make(Role.PEER, until, name=name, once=True)


def revoke(state: Path, name: str) -> None:
    """Puts out peer `name`, in the registry's folder `state`: its certificate, its id and its key, for good.

    Join tokens that are not for one peer id go too, because the peer may have kept one, or still see the join
    folder: that one is not written again until `reopen`. LocalError if there is no such peer.
    """
    Claims(state).revoke(name)
    files.write_private(State(state).join_folder_closed, b"")
    Tokens(State(state).tokens).drop_unbound(Role.PEER)


def reopen(state: Path, given: AuthorityFolder | None = None) -> None:
    """Has a join token for any number of peers count again: the next that the registry writes, or is `given`.

    LocalError where that is still the one that was withdrawn.
    """
    path = given_path(given, Role.PEER)
    if path is not None and Tokens(State(state).tokens).is_withdrawn(read_given(path)):
        raise LocalError(
            f"the token in {path} was withdrawn, because a peer that was put out may know it: give the"
            " registry another one first, and start it again (docs/security.md)"
        )
    State(state).join_folder_closed.unlink(missing_ok=True)


def _check_name(role: str, name: str) -> None:
    if role == Role.AGGREGATOR:
        if name != Role.AGGREGATOR.value:
            raise RemoteError(Reason.MALFORMED, "the aggregator's name is 'aggregator'", found=name)
        return
    try:
        certificates.check_name(name)
    except IdentityError as error:
        raise RemoteError(Reason.MALFORMED, str(error)) from error


def _load_request(csr: bytes, name: str) -> x509.CertificateSigningRequest:
    try:
        request = x509.load_der_x509_csr(csr)
        key, good = request.public_key(), request.is_signature_valid
    except Exception as error:  # of many kinds, as requests may hold what nobody has heard of
        raise RemoteError(Reason.MALFORMED, f"signing request: {error}", peer=name) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise RemoteError(Reason.MALFORMED, "signing request without a P-256 key", peer=name)
    if not good:
        raise RemoteError(Reason.MALFORMED, "signature of the signing request", peer=name)
    return request


def _point(request: x509.CertificateSigningRequest) -> bytes:
    key = request.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)  # _load_request
    return _compressed(key)


def _compressed(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)


def _hosts(request: x509.CertificateSigningRequest, own: str) -> list[x509.GeneralName]:
    """The hosts asked for beside the name `own`; RemoteError for one that TLS could take for a role."""
    try:
        extension = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    except Exception as error:
        raise RemoteError(Reason.MALFORMED, f"signing request: {error}") from error
    hosts: list[x509.GeneralName] = []
    for name in extension.value:
        if isinstance(name, x509.IPAddress):
            hosts.append(name)
        elif isinstance(name, x509.DNSName) and name.value != own:
            if not _HOST.fullmatch(name.value) or certificates.claims_role(name.value):
                raise RemoteError(
                    Reason.MALFORMED, "no certificates for this host", found=repr(name.value)
                )
            hosts.append(name)
    return hosts
