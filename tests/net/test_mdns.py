"""mDNS answers get lost: who was announced is asked for until the answer is there."""

from __future__ import annotations

import asyncio
import os
from typing import Any, ClassVar, cast

import pytest
from prometheus_client import generate_latest
from zeroconf import ServiceStateChange

from smpcfl.base.metrics import Metrics
from smpcfl.net import mdns
from smpcfl.net.mdns import SERVICE, Discovery


class Info:
    """What is known of a service; `answers` says what comes of each request, None: an error."""

    port = 9300
    answers: ClassVar[list[bool | None]] = []

    def __init__(self, service: str, name: str) -> None: ...

    async def async_request(self, zeroconf: object, milliseconds: int) -> bool:
        await asyncio.sleep(0)
        answer = self.answers.pop(0) if self.answers else False
        if answer is None:
            raise OSError("network is unreachable")
        return answer

    def parsed_addresses(self, version: object) -> list[str]:
        return ["10.0.0.2"]


@pytest.fixture
def change(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(mdns, "AsyncServiceInfo", Info)
    monkeypatch.setattr(mdns, "_RETRY_S", 0.0)

    def changed(
        listening: Discovery, state: ServiceStateChange, name: str = f"peer-a.{SERVICE}"
    ) -> None:
        listening._changed(cast(Any, None), SERVICE, name, state)

    return changed


async def test_a_peer_is_asked_for_until_it_answers(
    monkeypatch: pytest.MonkeyPatch, change: Any, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Info, "answers", [False, None, False, True])
    there = asyncio.Event()
    listening = Discovery("off", Metrics("seeded"), lambda peer: there.set())
    change(listening, ServiceStateChange.Added)
    await asyncio.wait_for(there.wait(), 5.0)
    assert listening.found == {"peer-a": "10.0.0.2:9300"}
    assert "network is unreachable" in caplog.text


async def test_a_peer_that_has_gone_is_not_asked_for_any_more(
    monkeypatch: pytest.MonkeyPatch, change: Any
) -> None:
    monkeypatch.setattr(Info, "answers", [])
    listening = Discovery("off", Metrics("seeded"))
    change(listening, ServiceStateChange.Added)
    (task,) = listening._resolving.values()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not task.done()
    change(listening, ServiceStateChange.Removed)
    await asyncio.wait({task}, timeout=5.0)
    assert task.cancelled()
    assert listening.found == {}


async def test_no_more_names_are_followed_than_can_be(
    monkeypatch: pytest.MonkeyPatch, change: Any
) -> None:
    monkeypatch.setattr(Info, "answers", [])
    monkeypatch.setattr(mdns, "_MOST", 10)
    listening = Discovery("off", Metrics("seeded"))
    for number in range(100):
        change(listening, ServiceStateChange.Added, f"peer-{number}.{SERVICE}")
    assert len(listening._resolving) == 10
    change(listening, ServiceStateChange.Removed, f"peer-0.{SERVICE}")
    change(listening, ServiceStateChange.Added, f"peer-99.{SERVICE}")
    assert "peer-99" in listening._resolving
    await listening.close()


@pytest.mark.parametrize("name", ["", "aggregator", "Peer A", "a\n12:00:00 INFO", "ü", "a" * 60])
async def test_what_is_no_peer_id_is_not_followed(change: Any, name: str) -> None:
    listening = Discovery("off", Metrics("seeded"))
    change(listening, ServiceStateChange.Added, f"{name}.{SERVICE}")
    assert listening._resolving == {}


@pytest.mark.sockets
async def test_a_name_that_is_taken_on_the_link_keeps_nobody_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Who holds it may be a stranger, who would decide who takes part."""
    first, second = (Discovery("127.0.0.1", Metrics("seeded")) for _ in range(2))
    name = f"peer-{os.getpid()}"
    try:
        await first.start()
        await second.start()
        await first.announce(name, "127.0.0.1", 9300)
        await second.announce(name, "127.0.0.1", 9301)
    finally:
        await first.close()
        await second.close()
    (record,) = [record for record in caplog.records if "another host" in record.getMessage()]
    assert "give one of them another --peer-id" in record.getMessage()


async def test_what_hears_nobody_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    metrics = Metrics("seeded")
    listening = Discovery("off", metrics)
    with caplog.at_level("INFO"):
        await listening.start()
    assert "mDNS is off: peers are found by the registry" in caplog.text
    assert listening.hears({"b"}), "nothing to complain of"
    shown = generate_latest(metrics.registry).decode()
    assert 'smpcfl_peers_discovered{mode="seeded",via="mdns"} 0.0' in shown
    await listening.close()
