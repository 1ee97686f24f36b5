"""`smpcfl doctor`: looks at a service from where it runs, and says what is wrong, with the remedy."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator

from cryptography import x509
from rich.console import Console
from rich.text import Text

from ..base.config import Settings
from ..base.state import State
from ..net import certificates
from ..net.certificates import Role
from ..net.enrolment import TOKEN_VARIABLE
from ..protocol.errors import LocalError, ProtocolError
from . import doctor_folders, doctor_ports, doctor_registry
from .finding import Finding, Level, Patient, fault, ok


def _settings(patient: Patient) -> Iterator[Finding]:
    """That they make sense shows before: those that do not are refused as by the service."""
    settings = patient.settings
    shown = f"{patient.role} in mode {settings.mode}, state {settings.state}, join {settings.join}"
    yield ok("settings", shown)


# One after another: later ones use what earlier ones have found out.
CHECKS: dict[str, Callable[[Patient], Iterator[Finding]]] = {
    "settings": _settings,
    "state folder": doctor_folders.state_folder,
    "join folder": doctor_folders.join_folder,
    "key and certificate": doctor_folders.identity,
    "join token": doctor_folders.token,
    "names": doctor_ports.names,
    "own ports": doctor_ports.ports_in,
    "ports of others": doctor_ports.ports_out,
    "registry": doctor_registry.registry,
    "SuperLink's clock": doctor_registry.superlink_clock,
    "peers": doctor_ports.peers,
    "versions": doctor_registry.versions,
    "mDNS": doctor_registry.mdns,
}
_STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.FAULT: "bold red"}


def diagnose(settings: Settings, service: str | None, *, as_json: bool = False) -> int:
    """Prints what is found; 1 if there is a fault, else 0."""
    role = Role(service) if service else _service_of(settings)
    patient = Patient(settings, role, token=os.environ.get(TOKEN_VARIABLE, "").strip())
    console, found = Console(), []
    with console.status("") as status:
        for name, check in CHECKS.items():
            status.update(f"{name} ...")
            for finding in _found(name, check, patient):
                found.append(finding)
                if not as_json:
                    console.print(_line(finding), soft_wrap=True, highlight=False)
    if as_json:
        members = {"service": role.value, "findings": [item.to_members() for item in found]}
        print(json.dumps(members, indent=2))
    return 1 if any(item.level is Level.FAULT for item in found) else 0


def _found(
    name: str, check: Callable[[Patient], Iterator[Finding]], patient: Patient
) -> Iterator[Finding]:
    try:
        yield from check(patient)
    except (ProtocolError, OSError) as error:
        # Nothing that a check expects: the others are still worth it.
        yield fault(name, f"cannot be checked ({error})", "look at that first")


def _service_of(settings: Settings) -> Role:
    """Whose state folder it is, as its certificate says, be that good or not."""
    state = State(settings.state)
    if state.tokens.exists():
        return Role.REGISTRY
    try:
        kept = x509.load_pem_x509_certificate(state.certificate.read_bytes())
        named = certificates.only_role(certificates.hosts_of(kept))
    except (OSError, ValueError, x509.InvalidVersion, x509.ExtensionNotFound):
        named = None
    if named is not None:
        return named[0]
    raise LocalError(
        f"{settings.state} does not tell which service this is: give --service peer, aggregator or registry"
    )


def _line(finding: Finding) -> Text:
    remedy = f". Remedy: {finding.remedy}" if finding.remedy else ""
    return Text.assemble(
        (f"{finding.level:<8}", _STYLES[finding.level]),
        f" {finding.check}: {finding.found}{remedy}",
    )
