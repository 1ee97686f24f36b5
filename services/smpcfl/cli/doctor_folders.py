"""What `smpcfl doctor` looks at in the state folder and the join folder. Nothing there is changed."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from ..base import files
from ..base.state import AuthorityFolder, JoinFolder, State
from ..net import certificates
from ..net.certificates import IdentityError, Role
from ..net.enrolment import TOKEN_VARIABLE
from ..net.kept_certificate import check_kept
from ..net.reachability import Trouble, check_validity, key_of
from ..protocol.errors import RemoteError
from ..registry.ca import check_ca, check_same_ca, load_ca_and_key
from ..registry.tokens import Tokens, given_path, is_token, read_given
from .finding import Finding, Patient, fault, of_trouble, ok, warning

_WHEN = "%Y-%m-%d %H:%M UTC"


def state_folder(patient: Patient) -> Iterator[Finding]:
    least = files.AGGREGATOR_BYTES if patient.role is Role.AGGREGATOR else files.LEAST_BYTES
    yield _folder("state folder", patient.settings.state, least, "state")


def _folder(check: str, folder: Path, least: int, option: str) -> Finding:
    if not folder.exists():
        there = next(parent for parent in folder.absolute().parents if parent.exists())
        if files.problem(there, least, option) is None:
            return ok(check, f"{folder} is not there yet: the service makes it")
        return fault(
            check,
            f"{folder} is not there, and cannot be made in {there}",
            f"make it, as this user ({os.geteuid()}), or choose another with --{option}",
        )
    wrong = files.problem(folder, least, option)
    owner = folder.stat().st_uid
    if wrong is not None:
        if owner != os.geteuid():
            whose = f"{wrong[0]}; it is user {owner}'s, and this is {os.geteuid()}"
            return fault(check, whose, f"run this as user {owner}, or give the folder to this one")
        return fault(check, *wrong)
    if owner != os.geteuid():
        return warning(
            check,
            f"{folder} is user {owner}'s, and this is {os.geteuid()}",
            "run this as the user that the service has, or give the folder to that one",
        )
    return ok(check, f"{folder}, {shutil.disk_usage(folder).free / files.MIB:.0f} MiB free")


def join_folder(patient: Patient) -> Iterator[Finding]:
    """The CA's certificate, as whoever enrols needs it; of a registry, where it leaves that."""
    if patient.role is Role.REGISTRY:
        for role in (Role.PEER, Role.AGGREGATOR):
            if _given_path(patient, role) is None:
                folder = patient.settings.join / role
                yield _folder(f"join folder of role {role}", folder, files.LEAST_BYTES, "join")
        return
    path, check = JoinFolder(patient.settings.join).ca, "ca.pem"
    copy = f"copy ca.pem from the registry's join folder to {path}, or give the folder with --join"
    if not path.exists():
        yield fault(check, f"no CA certificate at {path}", copy)
        return
    try:
        ca = certificates.load_ca(path)
        check_ca(ca, path)
        check_validity(ca, copy)
    except Trouble as trouble:
        yield of_trouble(check, trouble)
        return
    except (IdentityError, OSError) as error:
        yield fault(check, str(error), copy)
        return
    patient.ca = ca
    yield ok(check, f"SHA-256 {_fingerprint(ca)}, {_until(ca)}")


def _given_path(patient: Patient, role: Role) -> Path | None:
    return given_path(AuthorityFolder.given(patient.settings.authority), role)


def identity(patient: Patient) -> Iterator[Finding]:
    """Key and certificate."""
    state = State(patient.settings.state)
    secrets = [state.key]
    if patient.role is Role.REGISTRY and not patient.settings.authority:
        secrets.append(state.ca_key)
    for path in secrets:
        if path.exists():
            yield _secret(path)
    if patient.role is Role.REGISTRY:
        yield from _registry_ca(patient)
        return
    if not state.certificate.exists():
        yield ok("certificate", "none yet: the service has not enrolled")
        return
    if patient.ca is None:
        yield warning("certificate", "not checked, without the CA's", "see ca.pem above")
        return
    try:
        check_kept(patient.settings.state, patient.ca, patient.role)
    except Trouble as trouble:
        yield of_trouble("certificate", trouble)
        return
    except IdentityError as error:
        yield fault("certificate", str(error), f"restore {state.key}, or enrol anew without it")
        return
    patient.own = certificates.load(patient.settings.state, patient.ca)
    assert patient.own is not None  # check_kept
    yield _own_certificate(patient)


def _own_certificate(patient: Patient) -> Finding:
    own, check = patient.own, "certificate"
    assert own is not None
    wanted = patient.settings.peer_id
    if patient.role is Role.PEER and wanted not in ("", own.name):
        return fault(
            check,
            f"{patient.settings.state} is that of peer {own.name}, not of {wanted}",
            "give each peer a state folder of its own, or leave --peer-id out",
        )
    due = certificates.renewal(own.certificate)
    shown = f"{certificates.tls_name(own.role, own.name)}, {_until(own.certificate)}"
    if certificates.now() > due + (own.certificate.not_valid_after_utc - due) / 4:
        return warning(
            check,
            f"{shown}: it should have been renewed at {due:{_WHEN}}",
            "a service that runs needs the registry's gRPC port for that: look for"
            " certificate_not_renewed in its log, and at the ports below; one that starts renews it at once",
        )
    named = patient.settings.certificate_host() if patient.role is Role.AGGREGATOR else ""
    if named and named not in certificates.hosts_of(own.certificate):
        return warning(
            check,
            f"{shown}: without the name {named}, by which SuperNodes call",
            f"it comes with the next renewal, at {due:{_WHEN}}; for one now, remove"
            f" {State(patient.settings.state).certificate} and start again with a join token",
        )
    return ok(check, shown)


def _registry_ca(patient: Patient) -> Iterator[Finding]:
    state = State(patient.settings.state)
    given = AuthorityFolder.given(patient.settings.authority)
    folder = given or AuthorityFolder(state.path)
    if given is None and not state.ca_key.exists() and not state.ca.exists():
        yield ok("CA", "none yet: the registry makes it at its first start")
        return
    remedy = "restore ca.pem and ca-key.pem together, from a backup or as docs/security.md has it"
    try:
        _, ca = load_ca_and_key(folder.path)
        check_validity(ca, remedy)
        if given is not None and state.ca.exists():
            check_same_ca(state.path, ca)
    except Trouble as trouble:
        yield of_trouble("CA", trouble)
    except (IdentityError, OSError) as error:
        yield fault("CA", str(error), remedy)
    else:
        patient.ca = ca
        yield ok("CA", f"SHA-256 {_fingerprint(ca)}, {_until(ca)}")


def token(patient: Patient) -> Iterator[Finding]:
    """As far as this machine can tell; whether it is good the registry says (`doctor_registry.asked`)."""
    if patient.role is Role.REGISTRY:
        yield from _own_tokens(patient)
        return
    if patient.own is not None:
        until = patient.own.certificate.not_valid_after_utc
        yield ok("join token", f"none is needed: the certificate is good until {until:{_WHEN}}")
        return
    path, check = JoinFolder(patient.settings.join).token, "join token"
    if not patient.token:
        try:
            patient.token = path.read_text(errors="replace").strip()
        except OSError as error:
            yield fault(
                check,
                f"none at {path} ({error.strerror}), nor in {TOKEN_VARIABLE}",
                "copy it from the registry's join folder, or make one with `smpcfl token` where the"
                " registry runs",
            )
            return
        if (loose := _loose(path)) is not None:
            yield loose
    if not is_token(patient.token):
        yield fault(
            check,
            f"this is none: {len(patient.token)} characters, and not 43 letters, digits, '-' and '_'",
            "copy the file whole, or make one with `smpcfl token` where the registry runs",
        )
        patient.token = ""


def _own_tokens(patient: Patient) -> Iterator[Finding]:
    """Those that the registry keeps in its join folder, or is given."""
    tokens = Tokens(State(patient.settings.state).tokens)
    for role in (Role.PEER, Role.AGGREGATOR):
        if (given := _given_path(patient, role)) is not None:
            yield _given_token(given, role)
            continue
        check = f"join token of role {role}"
        path = JoinFolder(patient.settings.join / role).token
        if role is Role.PEER and State(patient.settings.state).join_folder_closed.exists():
            yield ok(check, "withdrawn after a revocation; `smpcfl token --reopen` makes it again")
            continue
        if not path.exists():
            yield ok(check, "none yet: the registry writes it when it starts")
            continue
        name = "" if role is Role.PEER else Role.AGGREGATOR.value
        try:
            kept = path.read_text(errors="replace").strip()
            until = tokens.check(kept, role, name, "", time.time()).until
        except (RemoteError, OSError) as error:
            yield fault(
                check,
                f"nobody can enrol with {path}: {error}",
                "start the registry again: it writes a new one each half of SMPCFL_TOKEN_HOURS",
            )
        else:
            yield ok(check, f"{path}, good until {time.strftime(_WHEN, time.gmtime(until))}")


def _given_token(path: Path, role: Role) -> Finding:
    check = f"join token of role {role}"
    try:
        read_given(path)
    except IdentityError as error:
        return fault(check, *str(error).rsplit(": ", 1))
    return ok(check, f"{path}, good for as long as the registry is given it")


def _secret(path: Path) -> Finding:
    try:
        certificates.load_key(path)
    except IdentityError as error:
        return fault(
            path.name,
            str(error),
            f"restore {path} from a backup; a service without its key enrols anew, under another id",
        )
    return _loose(path) or ok(path.name, f"{path}, readable by its owner alone")


def _loose(path: Path) -> Finding | None:
    mode = path.stat().st_mode & 0o777
    if not mode & 0o077:
        return None
    return warning(path.name, f"{path} is open to others (mode {mode:04o})", f"chmod 600 {path}")


def _fingerprint(ca: x509.Certificate) -> str:
    """Of the whole certificate, as `openssl x509 -fingerprint -sha256` shows it."""
    return f"{ca.fingerprint(SHA256()).hex()} (key {key_of(ca)})"


def _until(certificate: x509.Certificate) -> str:
    return f"valid until {certificate.not_valid_after_utc:{_WHEN}}"
