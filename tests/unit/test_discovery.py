"""mDNS answers get lost: who was announced is asked for until the answer is there."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar, cast

import pytest
from zeroconf import ServiceStateChange

from smpcfl import discovery
from smpcfl.discovery import SERVICE, Discovery
from smpcfl.metrics import Metrics


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
    monkeypatch.setattr(discovery, "AsyncServiceInfo", Info)
    monkeypatch.setattr(discovery, "_RETRY_S", 0.0)

    def changed(listening: Discovery, state: ServiceStateChange) -> None:
        listening._changed(cast(Any, None), SERVICE, f"peer-a.{SERVICE}", state)

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
