"""What `smpcfl doctor` finds out about names and ports: those of others from here, and this service's own."""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from smpc.v1 import registry_pb2 as pb

from ..base.host_port import joined, near, split
from ..base.state import State
from ..net import certificates, rpc
from ..net.addresses import own_address
from ..net.certificates import IdentityError, Role
from ..net.reachability import Trouble, check_shown, resolve, shown_certificate, within
from ..peer.serve_peer import PORT as PEER_PORT
from ..protocol.errors import clean
from ..protocol.signing import AGGREGATOR, REGISTRY
from ..registry.serve_registry import PORT as REGISTRY_PORT
from .finding import Finding, Level, Patient, fault, of_trouble, ok, warning

DEADLINE_S = 3.0
_AT_ONCE = 32  # peers that are tried at the same time
_MOST_LINES = 8  # of peers that answer


# -- names -----------------------------------------------------------------------------------------


def names(patient: Patient) -> Iterator[Finding]:
    """Those of the others, and this service's own."""
    settings = patient.settings
    others = [] if patient.role is Role.REGISTRY else [settings.registry, settings.enrolment]
    if patient.role is Role.PEER:
        others.append(settings.aggregator)
    for host in dict.fromkeys(split(address)[0] for address in others):
        try:
            yield ok(f"name {host}", _families(resolve(host, DEADLINE_S)))
        except Trouble as trouble:
            yield of_trouble(f"name {host}", trouble)
    if patient.role is Role.PEER or (patient.role is Role.AGGREGATOR and settings.advertise):
        yield _own_name(patient)


def _families(addresses: list[str]) -> str:
    kinds = {"IPv6" if ":" in address else "IPv4" for address in addresses}
    return f"{', '.join(addresses)} ({' and '.join(sorted(kinds))})"


def _own_name(patient: Patient) -> Finding:
    check, remedy = "own address", "give one that the other machines reach with --advertise"
    try:
        host = _advertised(patient)
        addresses = resolve(host, DEADLINE_S)
    except (Trouble, OSError) as error:
        # Others look it up, not this machine.
        return warning(check, getattr(error, "found", str(error)), remedy)
    try:
        registry = resolve(split(patient.settings.registry)[0], DEADLINE_S)
    except Trouble:
        registry = []
    shown = host if addresses == [host] else f"{host}: {_families(addresses)}"
    own, others = [[ipaddress.ip_address(text) for text in each] for each in (addresses, registry)]
    if not any(address.is_loopback for address in others) and all(map(_goes_nowhere, own)):
        return fault(check, f"{shown}: nobody on another machine reaches that", remedy)
    public = [any(address.is_global for address in each) for each in (own, others)]
    if public == [False, True]:
        return warning(check, f"{shown} is private, and the registry is not", remedy)
    return ok(check, shown)


def _goes_nowhere(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    kinds = (address.is_loopback, address.is_unspecified, address.is_link_local)
    return any(kinds) or address.is_multicast


def _advertised(patient: Patient) -> str:
    towards = patient.settings.registry
    return patient.settings.advertised()[0] or within(DEADLINE_S, lambda: own_address(towards))


# -- others' ports ---------------------------------------------------------------------------------


def ports_out(patient: Patient) -> Iterator[Finding]:
    settings = patient.settings
    if patient.role is Role.REGISTRY:
        return
    yield _look("registry", settings.registry, patient, Role.REGISTRY, REGISTRY)
    yield _look("enrolment", settings.enrolment, patient, Role.REGISTRY, REGISTRY)
    if patient.role is Role.PEER:
        found = _look("aggregator", settings.aggregator, patient, Role.AGGREGATOR, AGGREGATOR)
        yield found
        if found.level is Level.OK and patient.ca is not None:
            yield from _superlink_name(settings.aggregator)


def _look(check: str, address: str, patient: Patient, role: Role, name: str) -> Finding:
    # Of the aggregator Flower asks by its host.
    asked = "" if role is Role.AGGREGATOR else certificates.tls_name(role, name)
    try:
        certificate = shown_certificate(address, DEADLINE_S, asked)
        if patient.ca is None:
            return warning(
                f"to {check}", f"{address} answers, certificate not checked", "see ca.pem above"
            )
        check_shown(certificate, patient.ca, role, name)
    except Trouble as trouble:
        return of_trouble(f"to {check}", trouble)
    return ok(f"to {check}", f"{address} is {certificates.tls_name(role, name)}")


def _superlink_name(address: str) -> Iterator[Finding]:
    """Flower's SuperNode holds the certificate against the address that it calls; our own calls do not."""
    host, check = split(address)[0], "aggregator's name"
    try:
        hosts = certificates.hosts_of(shown_certificate(address, DEADLINE_S))
    except Trouble as trouble:
        yield of_trouble(check, trouble)
        return
    if host not in hosts:
        yield fault(
            check,
            f"its certificate is not for {host!r}, but for {clean(', '.join(hosts))}: a SuperNode does not"
            " connect",
            f"set SMPCFL_ADVERTISE={host} at the aggregator, or call it by another of its names",
        )


def peers(patient: Patient) -> Iterator[Finding]:
    """Each other peer on the registry's roster, or on the one that was kept: others have to be reached."""
    if patient.role is Role.REGISTRY or patient.own is None:
        return
    roster, listed = patient.roster, "the roster"
    if roster is None:
        listed = "the kept roster"
        try:
            roster = pb.Roster.FromString(State(patient.settings.state).roster.read_bytes())
        except Exception:  # none, or damaged: the service does without it as well
            return
    others = [entry for entry in roster.entries if entry.peer != patient.own.name]
    if not others:
        yield ok("to peers", f"no other peer is on {listed}")
        return
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = list(pool.map(lambda entry: _look_at_peer(patient, entry), others))
    good = [finding for finding in found if finding.level is Level.OK]
    if len(good) > _MOST_LINES:
        found = [finding for finding in found if finding.level is not Level.OK]
        yield ok("to peers", f"{len(good)} of {len(others)} on {listed} answer")
    yield from found


def _look_at_peer(patient: Patient, entry: pb.Entry) -> Finding:
    peer, address = clean(entry.peer), clean(entry.address)
    try:
        split(address)
    except ValueError:
        found = f"{address!r} is no address"
        return fault(f"to {peer}", found, "start that peer again, which registers anew")
    finding = _look(peer, address, patient, Role.PEER, entry.peer)
    if finding.level is Level.FAULT and patient.roster is None:
        # Whoever is on the kept roster only may have left since.
        return warning(finding.check, finding.found, finding.remedy)
    return finding


# -- own ports -------------------------------------------------------------------------------------


def ports_in(patient: Patient) -> Iterator[Finding]:
    """Whether the service can listen, or does."""
    settings = patient.settings
    ports = {
        Role.PEER: {"port": settings.port or PEER_PORT},
        Role.AGGREGATOR: {"superlink-port": settings.superlink_port},
        Role.REGISTRY: {
            "port": settings.port or REGISTRY_PORT,
            "enrolment-port": settings.enrolment_port,
        },
    }[patient.role]
    for option, port in ports.items():
        yield _own_port(patient, option, port)
    if not patient.runs:
        yield from _more_ports(patient)
    if patient.role is Role.PEER or (patient.role is Role.AGGREGATOR and settings.advertise):
        yield _from_outside(patient, next(iter(ports.values())))


def _own_port(patient: Patient, option: str, port: int) -> Finding:
    check, host = f"own port {port}", patient.settings.host
    error = rpc.why_not_listen(host, port)
    if error is None:
        return ok(check, f"free on {host}: the service does not run")
    if error.errno != errno.EADDRINUSE:
        return fault(
            check,
            f"cannot listen on {joined(host, port)} ({error.strerror or error})",
            f"give an address of this machine with --host, or another port with --{option}",
        )
    try:
        if _is_ours(patient, joined(near(host), port)):
            patient.runs = True
            return ok(check, "this service listens there")
        found = "another service of smpcfl, or an earlier one of this folder, listens there"
    except Trouble as trouble:
        found = f"in use by something else ({trouble.found})"
    return fault(check, found, f"stop what uses it, or choose another port with --{option}")


def _more_ports(patient: Patient) -> Iterator[Finding]:
    """What the service needs besides; if it runs, it has them."""
    settings = patient.settings
    wanted = {"metrics-port": (settings.host, settings.metrics_port)}
    if patient.role is Role.REGISTRY:
        wanted["targets-port"] = (settings.host, settings.targets_port)
    elif patient.role is Role.PEER:
        wanted["supernode-port"] = ("127.0.0.1", settings.supernode_port)
    else:
        wanted["page-port"] = (settings.page_host, settings.page_port)
    for option, (host, port) in wanted.items():
        error = rpc.why_not_listen(host, port) if port else None
        if error is not None:
            yield fault(
                f"own port {port}",
                f"cannot listen on {joined(host, port)} ({error.strerror or error})",
                f"stop what uses it, or choose another with --{option}",
            )


def _from_outside(patient: Patient, port: int) -> Finding:
    """As near to the view of others as it gets: by the address that they are told."""
    check = "own address, called"
    if not patient.runs:
        return ok(check, "not tried: the service does not run")
    try:
        address = joined(_advertised(patient), patient.settings.advertised()[1] or port)
        if _is_ours(patient, address):
            return ok(check, f"{address} leads back to this service")
    except (Trouble, OSError) as error:
        return warning(
            check,
            f"{getattr(error, 'found', error)}; from this machine, which proves little: a router may not turn"
            " a connection back",
            "run `smpcfl doctor` at another peer, which tries this one's port; if that fails, let the port"
            " in, or correct --advertise",
        )
    return fault(
        check,
        f"{address} leads to another service",
        "give an address that leads here with --advertise, or correct what forwards the port",
    )


def _is_ours(patient: Patient, address: str) -> bool:
    """Whether the certificate there is of the key in the state folder."""
    own = patient.own
    asked = certificates.tls_name(own.role, own.name) if own is not None else ""
    certificate = shown_certificate(address, DEADLINE_S, asked)
    try:
        key = certificates.load_key(State(patient.settings.state).key)
    except IdentityError:
        return False
    return certificate.public_key() == key.public_key()
