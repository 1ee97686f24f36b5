"""What `smpcfl doctor` hears from registry, SuperLink and mDNS: token, clocks, versions, who is there."""

from __future__ import annotations

import asyncio
import http.client
import ssl
import time
from collections.abc import Iterator
from importlib.metadata import version
from platform import python_version

import grpc
import grpc.aio

from smpc.v1 import registry_pb2 as pb

from .. import __version__
from ..base.config import ConfigError
from ..base.host_port import split
from ..base.metrics import Metrics
from ..base.state import State
from ..base.waiting import wait_for
from ..net import certificates, clocks, enrolment, rpc
from ..net.addresses import on_link
from ..net.certificates import Role
from ..net.clocks import ClockDifference
from ..net.directory import Directory
from ..net.mdns import Discovery
from ..net.versions import Spoken, named
from ..protocol.encoding import VERSION
from ..protocol.errors import Reason, clean
from ..protocol.signing import AGGREGATOR
from .doctor_ports import DEADLINE_S
from .finding import Finding, Patient, fault, ok, warning

MDNS_S = 2.0
_SUPERLINK_PATH = "/v1/fleet/"  # refused to whoever is no SuperNode, without a line in the log


def registry(patient: Patient) -> Iterator[Finding]:
    """With a certificate its roster and its clock; without one, what it says of the token."""
    if patient.role is Role.REGISTRY or patient.ca is None:
        return
    if patient.own is None:
        if patient.token:
            yield asyncio.run(_token(patient))
        return
    asked = time.time()
    try:
        patient.roster = asyncio.run(_lookup(patient))
    except grpc.aio.AioRpcError as error:
        yield _not_told(patient, error)
        return
    answered = time.time()
    yield ok(
        "roster", f"the registry knows this service: {len(patient.roster.entries)} peers are there"
    )
    if patient.roster.time_ms:
        found = clocks.difference(patient.roster.time_ms / 1000, asked, answered)
        yield _clock("clock, registry", found)
    else:
        yield ok("clock, registry", "not compared: an older registry does not tell its own")


async def _lookup(patient: Patient) -> pb.Roster:
    assert patient.own is not None
    settings = patient.settings
    directory = Directory(patient.own, settings.registry, State(settings.state).roster)
    try:
        return await directory.registry.Lookup(pb.LookupRequest(), timeout=DEADLINE_S)
    finally:
        await directory.close()


def _not_told(patient: Patient, error: grpc.aio.AioRpcError) -> Finding:
    details = clean(error.details() or str(error.code()))
    if rpc.reason_of(error) is Reason.REVOKED:
        return fault(
            "roster",
            f"the registry refuses this service: {details}",
            "a peer that was excluded by mistake enrols under a new id, with an empty state folder",
        )
    if rpc.reason_of(error) is not None:
        return fault("roster", f"the registry refuses this service: {details}", "see its log")
    return fault(
        "roster",
        f"no answer of the registry at {patient.settings.registry} ({details})",
        "see what is said of its name and its port",
    )


async def _token(patient: Patient) -> Finding:
    check, settings = "join token", patient.settings
    name = AGGREGATOR if patient.role is Role.AGGREGATOR else settings.peer_id
    kept = State(settings.state).peer_id
    if not name and kept.exists():
        name = kept.read_text(errors="replace").strip()
    assert patient.ca is not None
    request = pb.CheckTokenRequest(token=patient.token, role=patient.role, name=name)
    try:
        reply = await enrolment.check_token(settings.enrolment, patient.ca, request, DEADLINE_S)
    except grpc.aio.AioRpcError as error:
        details = clean(error.details() or str(error.code()))
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return ok(check, "whether it is good shows when it is used: an older registry")
        if rpc.reason_of(error) is None:
            return warning(
                check,
                f"not checked: no answer ({details})",
                "see what is said of the enrolment port",
            )
        return fault(
            check,
            f"the registry would refuse it: {details}",
            "make one with `smpcfl token`, for this peer id, where the registry runs",
        )
    until = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(reply.until_ms / 1000))
    return ok(check, f"the registry takes it until {until}")


# -- clock -----------------------------------------------------------------------------------------


def superlink_clock(patient: Patient) -> Iterator[Finding]:
    """By the `date` of an HTTP reply."""
    if patient.role is not Role.PEER or patient.ca is None:
        return
    check = "clock, SuperLink"
    asked = time.time()
    try:
        date = _date(patient)
    except (OSError, http.client.HTTPException) as error:
        yield warning(check, f"not compared ({error})", "see what is said of the aggregator's port")
        return
    found = clocks.of_date(date, asked, time.time())
    if found is None:
        yield ok(check, "not compared: it does not tell its own")
        return
    yield _clock(check, found, fault_s=clocks.WARNING_S)


def _date(patient: Patient) -> str:
    assert patient.ca is not None
    context = ssl.create_default_context(cadata=certificates.pem(patient.ca).decode())
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # that it is not the aggregator's is another finding
    host, port = split(patient.settings.aggregator)
    connection = http.client.HTTPSConnection(host, port, timeout=DEADLINE_S, context=context)
    try:
        connection.request("GET", _SUPERLINK_PATH)
        return connection.getresponse().getheader("date", "")
    finally:
        connection.close()


def _clock(check: str, found: ClockDifference, fault_s: float = clocks.ERROR_S) -> Finding:
    shown = f"this clock is {found}"
    if found.exceeds(fault_s):
        return fault(check, f"{shown}, {fault_s:.0f} s are too many", clocks.REMEDY)
    if found.exceeds(clocks.WARNING_S):
        return warning(check, shown, clocks.REMEDY)
    return ok(check, shown)


# -- versions --------------------------------------------------------------------------------------


def versions(patient: Patient) -> Iterator[Finding]:
    own = f"smpcfl {__version__}, flwr {version('flwr')}, Python {python_version()}"
    told: dict[str, Spoken] = {}
    if (roster := patient.roster) is not None:
        told = {
            "registry": Spoken(roster.software, 0),
            AGGREGATOR: Spoken(roster.aggregator_software, roster.aggregator_protocol),
            **{entry.peer: Spoken(entry.software, entry.protocol) for entry in roster.entries},
        }
    others = {name: one for name, one in told.items() if one.is_other}
    if others:
        yield fault(
            "versions",
            f"{own}, protocol {VERSION}; no rounds together with {named(others)}",
            "upgrade what is older: peers and the aggregator have to speak one protocol",
        )
        return
    older = {
        name: one
        for name, one in told.items()
        if one.software and _minor(one.software) != _minor(__version__)
    }
    if older:
        yield warning(
            "versions",
            f"{own}; others have {named(older)}",
            "no harm while an update rolls; then upgrade the rest: only adjacent versions are tested",
        )
    else:
        yield ok("versions", own)


def _minor(text: str) -> list[str]:
    """MAJOR.MINOR: versions that differ in no more are one to this check."""
    return text.split(".")[:2]


# -- mDNS ------------------------------------------------------------------------------------------


def mdns(patient: Patient) -> Iterator[Finding]:
    if patient.role is Role.AGGREGATOR:
        return  # it listens to the registry alone
    if patient.settings.mdns == "off":
        yield ok("mDNS", "off: the registry's roster is enough")
        return
    own = patient.own.name if patient.own is not None and patient.runs else ""
    if own and not _is_announced(patient):
        yield warning(
            "mDNS",
            "this peer has no IPv4 address towards the registry, and is not announced",
            "if that is right, --mdns off: the registry's roster is enough",
        )
        return
    try:
        heard = asyncio.run(_heard(patient, own))
    except (ConfigError, OSError) as error:
        yield fault(
            "mDNS",
            str(error).partition(": give")[0],
            "give one of this machine's addresses with --mdns, or --mdns off to rely on the registry",
        )
        return
    if own and own not in heard:
        yield warning(
            "mDNS",
            f"in {MDNS_S:.0f} s not even this peer's own announcement was heard",
            "let multicast to 224.0.0.251, UDP port 5353, through; or --mdns off to rely on the registry",
        )
    else:
        yield ok("mDNS", f"heard: {', '.join(sorted(heard)) or 'nobody, which may be right'}")


def _is_announced(patient: Patient) -> bool:
    settings = patient.settings
    host, _ = settings.advertised()
    return on_link(host, settings.registry) is not None


async def _heard(patient: Patient, own: str) -> list[str]:
    """Who is announced; listens until `own` is, at most `MDNS_S`."""
    there = asyncio.Event()

    def note(peer: str) -> None:
        if peer == own:
            there.set()

    discovery = Discovery(patient.settings.mdns, Metrics(patient.settings.mode), note)
    await discovery.start()
    try:
        await wait_for(there, MDNS_S)
        return [clean(peer) for peer in discovery.found]
    finally:
        await discovery.close()
