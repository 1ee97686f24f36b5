"""The live page of the command line, and how it follows the aggregator's."""

from __future__ import annotations

import socket

import pytest

from smpcfl.cli import live_page
from smpcfl.cli.live_page import Follow, LivePage
from smpcfl.reports.live_runs import LiveRuns
from smpcfl.reports.live_server import LiveServer
from smpcfl.reports.snapshot import Snapshot

pytestmark = pytest.mark.sockets
NOW = Snapshot(mode="seeded", round=1, phase="train")


def test_it_follows_the_page_of_an_aggregator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_page, "_EVERY_S", 0.0)
    runs = LiveRuns("")
    server = LiveServer(runs.source(), "127.0.0.1", 0)
    try:
        follow = Follow("seeded", server.port)
        assert follow.look() is None
        runs.put("seeded", NOW)
        assert follow.look() == NOW
    finally:
        server.close()
    assert follow.look() == NOW, "the last that was known"


def test_nothing_is_asked_twice_in_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    follow = Follow("seeded", 1)
    calls: list[int] = []

    def get(self: Follow) -> bytes:
        calls.append(1)
        raise OSError("nobody there")

    monkeypatch.setattr(Follow, "_get", get)
    monkeypatch.setattr(live_page, "_EVERY_S", 1e9)
    follow._asked = -2e9
    assert follow.look() is None
    assert follow.look() is None
    assert len(calls) == 1


def test_another_port_is_taken_where_the_usual_one_is_in_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        monkeypatch.setattr(live_page, "_PORT", port)
        with LivePage(wanted=True) as page:
            assert page.url.startswith("http://127.0.0.1:")
            assert page.url != f"http://127.0.0.1:{port}/"


def test_without_a_page_nothing_listens() -> None:
    with LivePage(wanted=False) as page:
        assert page.url == ""
