"""By which address a machine is known, with and without a network."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import ifaddr
import pytest

from smpcfl.net import addresses
from smpcfl.net.addresses import attachment, own_address


def adapters(*rows: tuple[int, str]) -> list[SimpleNamespace]:
    return [SimpleNamespace(index=index, ips=[SimpleNamespace(ip=ip)]) for index, ip in rows]


def unreachable(towards: tuple[str, int]) -> str:
    raise OSError("Network is unreachable")


@pytest.mark.sockets
def test_it_is_the_address_of_the_way_there() -> None:
    assert own_address("127.0.0.1:9200") == "127.0.0.1"


def test_without_a_way_there_it_is_what_the_host_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "_source", unreachable)
    monkeypatch.setattr(socket, "gethostbyname", lambda name: f"address of {name}")
    monkeypatch.setattr(socket, "gethostname", lambda: "box")
    assert own_address("10.0.0.1:9200") == "address of box"


def test_an_interface_that_comes_back_is_another_attachment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(addresses, "_source", lambda towards: "10.0.0.2")
    monkeypatch.setattr(ifaddr, "get_adapters", lambda: adapters((1, "127.0.0.1"), (2, "10.0.0.2")))
    before = attachment()
    monkeypatch.setattr(ifaddr, "get_adapters", lambda: adapters((1, "127.0.0.1"), (3, "10.0.0.2")))
    assert (before, attachment()) == (("10.0.0.2", 2), ("10.0.0.2", 3))
    monkeypatch.setattr(ifaddr, "get_adapters", lambda: adapters((1, "127.0.0.1")))
    assert attachment() == ("10.0.0.2", None)


def test_without_a_network_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "_source", unreachable)
    assert attachment() is None
