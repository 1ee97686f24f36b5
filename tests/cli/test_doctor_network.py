"""Every fault that `smpcfl doctor` claims to find: names, ports both ways, TLS, clocks, versions, mDNS."""

from __future__ import annotations

import asyncio
import datetime
import os
import socket
from pathlib import Path

import pytest

from smpc.v1 import registry_pb2 as pb
from smpcfl.base.metrics import Metrics
from smpcfl.base.state import State
from smpcfl.cli import doctor_ports, doctor_registry
from smpcfl.cli.stack import free_ports
from smpcfl.net import certificates, reachability
from smpcfl.net.certificates import Role
from smpcfl.net.mdns import Discovery
from smpcfl.protocol.signing import AGGREGATOR, REGISTRY
from smpcfl.registry import registry_service
from support.doctored import HOST, PEER, Sick, sick
from support.enrolled import Deployment

pytestmark = pytest.mark.sockets
__all__ = ["sick"]  # a fixture
KNOWN = ("join folder", "key and certificate")
OUT = (*KNOWN, "ports of others")
ASKED = (*KNOWN, "registry")


# -- names --------------------------------------------------------------------------------------------------


async def test_a_name_that_nobody_knows(sick: Sick) -> None:
    sick.change(registry="nowhere.invalid:9200")
    found = await sick.diagnosed("names", service="peer")
    found.shows("fault", "name nowhere.invalid", "is unknown here", "/etc/hosts")
    sick.change(registry="a..b:9200")
    found = await sick.diagnosed("names", service="peer")
    found.shows("fault", "name a..b", "is unknown here", "/etc/hosts")


async def test_a_resolver_that_never_answers(sick: Sick, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(act: object, seconds: float) -> None:
        raise TimeoutError("no answer within 3 s")

    monkeypatch.setattr(reachability, "within", lambda seconds, act: never(act, seconds))
    found = await sick.diagnosed("names", service="peer")
    found.shows("fault", "name localhost", "no answer within 3 s", "name server")


@pytest.mark.parametrize(
    ("advertise", "registry", "level", "said"),
    [
        ("127.0.0.1", "192.0.2.1:9200", "fault", "nobody on another machine reaches that"),
        ("0.0.0.0", "192.0.2.1:9200", "fault", "nobody on another machine reaches that"),
        ("169.254.7.7", "192.0.2.1:9200", "fault", "nobody on another machine reaches that"),
        ("10.0.0.2", "1.1.1.1:9200", "warning", "is private, and the registry is not"),
    ],
)
async def test_an_own_address_that_others_do_not_reach(
    sick: Sick, advertise: str, registry: str, level: str, said: str
) -> None:
    sick.change(advertise=advertise, registry=registry)
    found = await sick.diagnosed("names", service="peer")
    found.shows(level, "own address", said, "--advertise")


async def test_an_own_name_that_is_unknown_here(sick: Sick) -> None:
    sick.change(advertise="nowhere.invalid")
    found = await sick.diagnosed("names", service="peer")
    found.shows("warning", "own address", "is unknown here", "--advertise")


# -- ports of others ----------------------------------------------------------------------------------------


async def test_a_port_at_which_nobody_listens(sick: Sick) -> None:
    (port,) = free_ports(1)
    sick.change(enrolment=f"{HOST}:{port}")
    found = await sick.diagnosed(*OUT)
    found.shows("fault", "to enrolment", "refused: nobody listens", "start the service there")


async def test_a_port_that_a_firewall_drops(sick: Sick, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_ports, "DEADLINE_S", 0.3)
    full = socket.socket()
    waiting = [socket.socket() for _ in range(4)]
    try:
        full.bind((HOST, 0))
        full.listen(0)
        for each in waiting:  # no room for another connection: the kernel drops what comes
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        sick.change(registry=f"{HOST}:{full.getsockname()[1]}")
        found = await sick.diagnosed(*OUT)
        found.shows("fault", "to registry", "a firewall drops it", "let TCP port")
    finally:
        for each in (full, *waiting):
            each.close()


async def test_an_address_without_a_route(sick: Sick) -> None:
    sick.change(registry="127.255.255.255:9200")  # a broadcast address, to which TCP does not go
    found = await sick.diagnosed(*OUT)
    found.shows("fault", "to registry", "is unreachable", "a route")


async def test_a_port_that_takes_the_connection_and_says_nothing(
    sick: Sick, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_ports, "DEADLINE_S", 0.3)
    sick.change(registry=f"{HOST}:{await sick.silent()}")
    found = await sick.diagnosed(*OUT)
    found.shows("fault", "to registry", "says nothing", "load balancer")


async def test_a_port_without_tls(sick: Sick) -> None:
    sick.change(registry=f"{HOST}:{await sick.plaintext()}")
    found = await sick.diagnosed(*OUT)
    found.shows("fault", "to registry", "no TLS 1.3", "a proxy has to pass TCP on")


async def test_a_registry_of_another_ca(sick: Sick) -> None:
    other = Deployment(sick.folder / "other")
    port = await sick.show(other.identity(Role.REGISTRY, REGISTRY))
    sick.change(registry=f"{HOST}:{port}")
    found = await sick.diagnosed(*OUT)
    found.shows("fault", "to registry", "is of another CA", "copy ca.pem")


async def test_a_certificate_that_nobody_can_read(
    sick: Sick, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(der: bytes) -> None:
        raise ValueError("error parsing asn1 value")

    monkeypatch.setattr(reachability.x509, "load_der_x509_certificate", unreadable)
    with pytest.raises(reachability.Trouble, match="cannot be read") as caught:
        await asyncio.to_thread(reachability.shown_certificate, sick.settings.registry, 30.0)
    assert "right service" in caught.value.remedy


async def test_a_service_of_another_role(sick: Sick) -> None:
    sick.change(registry=sick.settings.aggregator)
    found = await sick.diagnosed(*OUT)
    said = "is that of aggregator.aggregator.smpcfl, not of registry.registry.smpcfl"
    found.shows("fault", "to registry", said, "address and port of the right service")


async def test_a_service_whose_certificate_has_expired(sick: Sick) -> None:
    port = await sick.show(sick.expired(Role.AGGREGATOR, AGGREGATOR))
    sick.change(aggregator=f"localhost:{port}")
    found = await sick.diagnosed(*OUT)
    found.shows("fault", "to aggregator", "expired at", "start that service again")


async def test_a_clock_before_the_others_certificates(
    sick: Sick, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = await sick.diagnosed(*OUT)
    assert found.levels() == {"ok"}
    behind = certificates.now() - datetime.timedelta(minutes=30)
    monkeypatch.setattr(certificates, "now", lambda: behind)
    certificate = sick.identity(Role.PEER, "peer-b").certificate
    with pytest.raises(doctor_ports.Trouble, match="not valid before") as caught:
        doctor_ports.check_shown(certificate, sick.deployment.ca, Role.PEER, "peer-b")
    assert "set this clock right" in caught.value.remedy


async def test_an_aggregator_that_is_called_by_a_name_it_does_not_have(sick: Sick) -> None:
    host, _, port = sick.settings.aggregator.partition(":")
    assert host == "localhost"
    sick.change(aggregator=f"127.0.0.1:{port}")
    found = await sick.diagnosed(*OUT)
    found.shows(
        "fault", "aggregator's name", "is not for '127.0.0.1'", "SMPCFL_ADVERTISE=127.0.0.1"
    )


async def test_other_peers_are_called_where_the_roster_has_them(sick: Sick) -> None:
    sick.register("peer-b", await sick.show(sick.identity(Role.PEER, "peer-b")))
    found = await sick.diagnosed(*ASKED, "peers")
    assert found.of("to peer-b")["level"] == "ok"
    (port,) = free_ports(1)
    sick.register("peer-c", port)
    found = await sick.diagnosed(*ASKED, "peers")
    found.shows("fault", "to peer-c", "refused", "start the service there")
    assert found.of("to peer-b")["level"] == "ok"
    # As a peer has it that was there when the registry was.
    roster = pb.Roster(entries=[pb.Entry(peer="peer-c", address=f"{HOST}:{port}")])
    State(sick.settings.state).roster.write_bytes(roster.SerializeToString())
    found = await sick.diagnosed(*KNOWN, "peers")
    found.shows("warning", "to peer-c", "refused", "start the service there")


async def test_a_peer_is_asked_for_by_the_name_by_which_a_relay_finds_it(sick: Sick) -> None:
    sick.register("peer-b", await sick.show(sick.identity(Role.PEER, "peer-b")))
    found = await sick.diagnosed(*ASKED, "peers")
    assert found.of("to peer-b")["level"] == "ok"
    assert sick.asked == ["peer-b.peer.smpcfl"]


async def test_many_peers_that_answer_are_one_line(sick: Sick) -> None:
    port = await sick.show(sick.identity(Role.PEER, "peer-b"))
    for number in range(9):
        peer = f"peer-{number}"
        sick.register(peer, await sick.show(sick.identity(Role.PEER, peer)))
    sick.register("peer-lost", port)
    found = await sick.diagnosed(*ASKED, "peers")
    assert found.text("to peers") == "9 of 10 on the roster answer"
    found.shows("fault", "to peer-lost", "is that of peer-b.peer.smpcfl", "right service")
    assert not [item for item in found.findings if item["check"] == "to peer-1"]


async def test_an_address_on_the_roster_that_is_none(sick: Sick) -> None:
    sick.register("peer-b", 1)
    sick.roster._entries["peer-b"].address = "\x1b[2J:x"
    found = await sick.diagnosed(*ASKED, "peers")
    found.shows("fault", "to peer-b", "'?[2J:x' is no address", "registers anew")


# -- own ports ----------------------------------------------------------------------------------------------


async def test_an_own_port_that_something_else_has(sick: Sick) -> None:
    await sick.plaintext(sick.settings.port)
    found = await sick.diagnosed("own ports", service="peer")
    check = f"own port {sick.settings.port}"
    found.shows("fault", check, "in use by something else", "--port")


async def test_an_own_port_that_another_peer_has(sick: Sick) -> None:
    await sick.show(sick.identity(Role.PEER, "peer-b"), sick.settings.port)
    found = await sick.diagnosed("own ports", service="peer")
    found.shows("fault", f"own port {sick.settings.port}", "another service of smpcfl", "--port")


async def test_an_address_that_this_machine_does_not_have(sick: Sick) -> None:
    sick.change(host="192.0.2.1")
    found = await sick.diagnosed("own ports", service="peer")
    found.shows("fault", f"own port {sick.settings.port}", "cannot listen on 192.0.2.1", "--host")


async def test_the_other_ports_that_the_service_needs(sick: Sick) -> None:
    await sick.plaintext(sick.settings.supernode_port)
    found = await sick.diagnosed("own ports", service="peer")
    check = f"own port {sick.settings.supernode_port}"
    found.shows("fault", check, "cannot listen on 127.0.0.1", "--supernode-port")


async def test_the_service_itself_at_its_port_and_at_the_address_that_others_are_told(
    sick: Sick,
) -> None:
    found = await sick.diagnosed("own ports")
    assert found.text("own address, called") == "not tried: the service does not run"
    await sick.show(sick.identity(Role.PEER, PEER), sick.settings.port)
    # Which the metrics of the service itself would have as well.
    await sick.plaintext(sick.settings.metrics_port)
    found = await sick.diagnosed("own ports")
    assert found.text(f"own port {sick.settings.port}") == "this service listens there"
    assert "leads back" in found.text("own address, called")
    assert (found.code, found.levels()) == (0, {"ok"})
    sick.change(advertise="127.0.0.2")
    found = await sick.diagnosed("own ports")
    found.shows("warning", "own address, called", "proves little", "at another peer")


async def test_an_own_address_that_leads_to_another_service(
    sick: Sick, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sick.show(sick.identity(Role.PEER, PEER), sick.settings.port)
    other = await sick.show(sick.identity(Role.PEER, "peer-b"))
    # As where a router forwards the port to another machine.
    monkeypatch.setattr(
        doctor_ports, "joined", lambda host, port: f"{HOST}:{other if host == 'me' else port}"
    )
    sick.change(advertise="me")
    found = await sick.diagnosed("own ports")
    found.shows("fault", "own address, called", "leads to another service", "forwards the port")


# -- the registry's answer ----------------------------------------------------------------------------------


async def test_a_peer_that_is_revoked(sick: Sick) -> None:
    sick.roster.revoke(frozenset({PEER}))
    found = await sick.diagnosed(*ASKED)
    found.shows("fault", "roster", "refuses this service: revoked", "under a new id")


async def test_a_registry_that_does_not_answer(sick: Sick, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_registry, "DEADLINE_S", 0.3)
    sick.change(registry=f"{HOST}:{await sick.silent()}")
    found = await sick.diagnosed(*ASKED)
    found.shows("fault", "roster", "no answer of the registry", "its port")


@pytest.mark.parametrize(
    ("off_s", "level", "said"),
    [
        (-1000, "fault", "ahead, 120 s are too many"),
        (1000, "fault", "behind, 120 s are too many"),
        (-100, "warning", "ahead"),
    ],
)
async def test_a_clock_that_is_not_the_registrys(
    sick: Sick, monkeypatch: pytest.MonkeyPatch, off_s: int, level: str, said: str
) -> None:
    right = registry_service._now_ms
    monkeypatch.setattr(registry_service, "_now_ms", lambda: right() + off_s * 1000)
    found = await sick.diagnosed(*ASKED)
    found.shows(level, "clock, registry", said, "run NTP")


async def test_a_registry_that_does_not_tell_its_clock(
    sick: Sick, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_service, "_now_ms", lambda: 0)
    found = await sick.diagnosed(*ASKED)
    assert found.of("clock, registry")["level"] == "ok"
    assert "an older registry" in found.text("clock, registry")


@pytest.mark.parametrize(("off_s", "said"), [(120.0, "behind"), (-120.0, "ahead")])
async def test_a_clock_that_is_not_the_superlinks(sick: Sick, off_s: float, said: str) -> None:
    sick.clock_off_s = off_s
    found = await sick.diagnosed(*KNOWN, "SuperLink's clock")
    found.shows("fault", "clock, SuperLink", f"{said}, 5 s are too many", "run NTP")


async def test_a_superlink_that_does_not_tell_its_clock(sick: Sick) -> None:
    sick.change(aggregator=f"{HOST}:{await sick.plaintext()}")
    found = await sick.diagnosed(*KNOWN, "SuperLink's clock")
    found.shows("warning", "clock, SuperLink", "not compared", "aggregator's port")


async def test_services_of_another_version(sick: Sick, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_registry, "__version__", "0.1.7")
    sick.register("peer-b", 1, "0.1.3")
    found = await sick.diagnosed(*ASKED, "versions")
    assert "smpcfl 0.1.7, flwr " in found.text("versions")
    assert found.of("versions")["level"] == "ok"
    sick.register("peer-c", 1, "0.3.0\x07")
    found = await sick.diagnosed(*ASKED, "versions")
    found.shows(
        "warning", "versions", "others have peer-c (smpcfl 0.3.0?)", "then upgrade the rest"
    )
    sick.register("peer-d", 1, "0.3.0", 3)
    found = await sick.diagnosed(*ASKED, "versions")
    said = "protocol 2; no rounds together with peer-d (smpcfl 0.3.0, protocol 3)"
    found.shows("fault", "versions", said, "upgrade what is older")


# -- mDNS ---------------------------------------------------------------------------------------------------


async def test_an_interface_that_this_machine_does_not_have(sick: Sick) -> None:
    sick.change(mdns="192.0.2.1")
    found = await sick.diagnosed("mDNS")
    found.shows("fault", "mDNS", "cannot use interface '192.0.2.1'", "--mdns")


async def test_whether_the_services_own_announcement_is_heard(
    sick: Sick, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = f"peer-{os.getpid()}"  # others may be announced on this machine
    sick.enrol(name=peer)
    await sick.show(sick.identity(Role.PEER, peer), sick.settings.port)
    monkeypatch.setattr(doctor_registry, "MDNS_S", 0.2)
    sick.change(mdns=HOST)
    found = await sick.diagnosed(*KNOWN, "own ports", "mDNS")
    found.shows("warning", "mDNS", "not even this peer's own", "UDP port 5353")
    monkeypatch.setattr(doctor_registry, "MDNS_S", 30.0)
    service = Discovery(HOST, Metrics("seeded"))
    await service.start()
    try:
        await service.announce(peer, HOST, sick.settings.port)
        found = await sick.diagnosed(*KNOWN, "own ports", "mDNS")
    finally:
        await service.close()
    assert found.of("mDNS")["level"] == "ok"
    assert peer in found.text("mDNS").removeprefix("heard: ").split(", ")


async def test_who_has_no_mdns_needs_none(sick: Sick) -> None:
    found = await sick.diagnosed("mDNS")
    assert found.text("mDNS") == "off: the registry's roster is enough"
    sick.change(state=Path("/nowhere"))
    found = await sick.diagnosed("mDNS", service="aggregator")
    assert [item["check"] for item in found.findings] == []
