"""What is a host with a port, and what is not."""

from __future__ import annotations

import pytest

from smpcfl.base import host_port
from smpcfl.base.config import ConfigError, Settings


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("registry:9200", "registry", 9200),
        ("peer-1.hospital_a.example.org:1", "peer-1.hospital_a.example.org", 1),
        ("10.0.0.2:65535", "10.0.0.2", 65535),
        ("[::1]:9200", "::1", 9200),
        ("[2001:db8::2]:9200", "2001:db8::2", 9200),
    ],
)
def test_a_host_and_its_port_are_one_text(text: str, host: str, port: int) -> None:
    assert host_port.split(text) == (host, port)
    assert host_port.joined(host, port) == text
    assert host_port.split_advertised(text) == (host, port)
    assert Settings(registry=text, enrolment=text, aggregator=text).registry == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        ":9300",
        "a:",
        "a:0",
        "a:65536",
        "a:-1",
        "a:+1",
        "a: 1",
        "a:1_0",
        "a b:9300",
        "a/b:9300",
        "user@a:9300",
        "http://a:9300",
        "a:9300/x",
        "a:9300:9300",
        "::1]:9300",
        "[::1:9300",
        "[a]:9300",
        "[10.0.0.2]:9300",
        "[fe80::1%eth0]:9300",
        "[]:9300",
        "a\n:9300",
        "ä:9300",
        "a" * 254 + ":9300",
    ],
)
def test_anything_else_is_none(text: str) -> None:
    for read in (host_port.split, host_port.split_advertised):
        with pytest.raises(ValueError, match="is no"):
            read(text)
    with pytest.raises(ConfigError, match=r"SMPCFL_AGGREGATOR.*host:port is needed"):
        Settings(aggregator=text)
    if text:
        with pytest.raises(
            ConfigError, match=r"SMPCFL_ADVERTISE.*a host name or an address is needed"
        ):
            Settings(advertise=text)


def test_an_ipv6_address_and_its_port_have_brackets_in_between() -> None:
    with pytest.raises(ConfigError, match=r"an IPv6 address in brackets"):
        Settings(registry="::1:9200")


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("peer.example.org", "peer.example.org"),
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8::2", "2001:db8::2"),
        ("[2001:db8::2]", "2001:db8::2"),
    ],
)
def test_what_others_are_told_may_lack_the_port(text: str, host: str) -> None:
    assert Settings(advertise=text).advertised() == (host, None)
    assert Settings(advertise=text).certificate_host() == host


def test_a_certificate_holds_no_port() -> None:
    settings = Settings(advertise="sums.example.org:19092")
    assert settings.advertised() == ("sums.example.org", 19092)
    with pytest.raises(ConfigError, match=r"give sums\.example\.org, and the peers the port"):
        settings.certificate_host()
    assert Settings().certificate_host() == ""


def test_a_host_to_listen_on_may_have_brackets() -> None:
    assert (Settings(host="[::]").host, Settings(page_host="[::1]").page_host) == ("::", "::1")
    assert [host_port.near(host) for host in ("::", "0.0.0.0", "10.0.0.2")] == [
        "::1",
        "127.0.0.1",
        "10.0.0.2",
    ]
