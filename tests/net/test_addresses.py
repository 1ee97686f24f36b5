"""By which address a machine is known, with and without a network."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import ifaddr
import pytest

from smpcfl.base import host_port
from smpcfl.net import addresses
from smpcfl.net.addresses import Attachment, attachment, on_link, own_address, way_to


def adapters(*rows: tuple[int, str]) -> list[SimpleNamespace]:
    """As ifaddr has them: an IPv6 address comes with its flow and zone."""
    return [
        SimpleNamespace(
            index=index,
            ips=[SimpleNamespace(ip=(ip, 0, 0) if ":" in ip else ip, is_IPv4=":" not in ip)],
        )
        for index, ip in rows
    ]


def unreachable(family: int, towards: tuple[object, ...]) -> str:
    raise OSError("Network is unreachable")


def called(monkeypatch: pytest.MonkeyPatch, **names: list[str]) -> None:
    """What the resolver knows; `box` is this machine."""

    def getaddrinfo(
        host: str, port: object, family: int = 0, **_: object
    ) -> list[tuple[int, int, int, str, tuple[object, ...]]]:
        found = [
            (kind, 0, 0, "", (address, port))
            for address in names.get(host, [host])
            for kind in [host_port.family(address)]
            if family in (0, kind) and (address[:1].isdigit() or ":" in address)
        ]
        if not found:
            raise socket.gaierror("unknown")
        return found

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(socket, "gethostname", lambda: "box")


@pytest.mark.sockets
def test_it_is_the_address_of_the_way_there() -> None:
    assert own_address("127.0.0.1:9200") == "127.0.0.1"
    assert own_address("[::1]:9200") == "::1"
    with pytest.raises(OSError, match=r"."):
        way_to("255.255.255.255:9200")  # for broadcasts a socket has to be made


def test_without_a_way_there_it_is_what_the_host_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "_source", unreachable)
    called(monkeypatch, box=["10.0.0.7"])
    assert own_address("10.0.0.1:9200") == "10.0.0.7"
    with pytest.raises(OSError, match="unreachable"):
        way_to("10.0.0.1:9200")


def test_of_a_registry_with_both_ipv4_goes_first_and_ipv6_is_taken_where_it_is_the_only_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    called(monkeypatch, both=["2001:db8::1", "10.0.0.1"], six=["2001:db8::1"])
    sources = {"2001:db8::1": "2001:db8::2", "10.0.0.1": "10.0.0.2"}
    monkeypatch.setattr(addresses, "_source", lambda family, towards: sources[str(towards[0])])
    assert (way_to("both:9200"), way_to("six:9200")) == ("10.0.0.2", "2001:db8::2")
    sources["2001:db8::1"] = "fe80::2%eth0"
    with pytest.raises(OSError, match="no way to six:9200"):
        way_to("six:9200")


@pytest.mark.parametrize(
    ("host", "own", "way", "announced"),
    [
        ("10.0.0.2", "10.0.0.2", "10.0.0.2", "10.0.0.2"),
        ("10.0.0.9", "10.0.0.9", "192.168.0.9", "10.0.0.9"),  # the operator knows better
        ("198.51.100.1", "10.0.0.2", "10.0.0.2", "10.0.0.2"),  # that of a NAT
        ("nat.example.org", "10.0.0.2", "10.0.0.2", "10.0.0.2"),
        ("nowhere.example.org", "10.0.0.2", "10.0.0.2", "10.0.0.2"),
        ("", "10.0.0.2", "10.0.0.2", "10.0.0.2"),
        ("2001:db8::2", "10.0.0.2", "10.0.0.2", "10.0.0.2"),
        ("2001:db8::2", "10.0.0.2", "2001:db8::2", None),
    ],
)
def test_on_the_link_a_peer_is_where_no_nat_is_in_between(
    monkeypatch: pytest.MonkeyPatch, host: str, own: str, way: str, announced: str | None
) -> None:
    called(monkeypatch, **{"nat.example.org": ["198.51.100.1"]})
    monkeypatch.setattr(ifaddr, "get_adapters", lambda: adapters((1, "127.0.0.1"), (2, own)))
    monkeypatch.setattr(addresses, "_source", lambda family, towards: way)
    assert on_link(host, "10.0.0.1:9200") == announced


def test_without_a_network_nothing_is_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    called(monkeypatch)
    monkeypatch.setattr(ifaddr, "get_adapters", lambda: adapters((1, "127.0.0.1")))
    monkeypatch.setattr(addresses, "_source", unreachable)
    assert on_link("nat.example.org", "10.0.0.1:9200") is None


def test_an_interface_that_comes_back_is_another_attachment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def now(*rows: tuple[int, str]) -> Attachment | None:
        monkeypatch.setattr(ifaddr, "get_adapters", lambda: adapters((1, "127.0.0.1"), *rows))
        return attachment()

    before = now((2, "10.0.0.2"))
    assert before == now((2, "10.0.0.2"), (5, "fe80::1"))  # as of a container's new interface
    others = [
        now((3, "10.0.0.2")),
        now((2, "10.0.0.9")),
        now((2, "10.0.0.2"), (2, "2001:db8::2")),
        now((2, "2001:db8::2")),
    ]
    assert None not in others
    assert len({before, *others}) == 5


def test_without_a_network_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = adapters((1, "127.0.0.1"), (1, "::1"), (2, "fe80::1"))
    monkeypatch.setattr(ifaddr, "get_adapters", lambda: rows)
    assert attachment() is None
