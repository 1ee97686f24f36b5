"""The server of the live page: what it sends, to whom, and how it ends."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from smpcfl.base.config import ConfigError, PortInUse
from smpcfl.reports import live_runs, live_server
from smpcfl.reports.live_runs import LiveRuns, read_state
from smpcfl.reports.live_server import LiveServer
from smpcfl.reports.snapshot import Snapshot
from support.reported import COMPLETE

pytestmark = pytest.mark.sockets
NOW = Snapshot(mode="seeded", round=1, phase="train", records=(COMPLETE,))


@pytest.fixture
def runs() -> LiveRuns:
    return LiveRuns("a note")


@pytest.fixture
def server(runs: LiveRuns) -> Iterator[LiveServer]:
    made = LiveServer(runs.source(), "127.0.0.1", 0)
    yield made
    made.close()


def get(server: LiveServer, path: str, host: str = "127.0.0.1") -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", path, headers={"Host": f"{host}:{server.port}"})
    return connection.getresponse()


def event(stream: http.client.HTTPResponse) -> tuple[str, dict[str, object]]:
    kind = stream.readline().decode().removeprefix("event: ").strip()
    data = json.loads(stream.readline().decode().removeprefix("data: "))
    assert stream.readline() == b"\n"
    return kind, data


def test_the_page_needs_no_other_host_and_runs_one_script(server: LiveServer) -> None:
    reply = get(server, "/")
    html = reply.read().decode()
    assert reply.headers["content-type"].startswith("text/html")
    assert '<script src="live.js"></script>' in html
    assert "script-src 'self'" in html
    assert "http://" not in html
    assert "https://" not in html
    script = get(server, "/live.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert b"EventSource" in script.read()


def test_sections_are_sent_anew_as_they_change_and_the_end_is_said(
    server: LiveServer, runs: LiveRuns
) -> None:
    stream = get(server, "/events")
    assert stream.headers["content-type"].startswith("text/event-stream")
    kind, first = event(stream)
    assert kind == "sections"
    assert first["order"] == ["live", "answer"]
    runs.put("seeded", NOW)
    _, second = event(stream)
    assert isinstance(second["sections"], dict)
    assert {"live", "training"} <= second["sections"].keys()
    runs.put("seeded", replace(NOW, phase="upload"))
    _, third = event(stream)
    assert isinstance(third["sections"], dict)
    assert list(third["sections"]) == ["live"]
    server.close()
    assert event(stream)[0] == "end"


def test_the_state_is_what_was_put_in(server: LiveServer, runs: LiveRuns) -> None:
    assert read_state(get(server, "/state").read()) == {}
    runs.put("seeded", NOW)
    assert read_state(get(server, "/state").read()) == {"seeded": NOW}


def test_a_page_of_another_name_in_the_browser_reads_nothing(server: LiveServer) -> None:
    """Whose name leads to this machine, for instance."""
    for path in ("/", "/state", "/events"):
        reply = get(server, path, host="evil.example")
        assert reply.status == 400
        assert b"seeded" not in reply.read()


def test_nobody_holds_up_who_puts_in(runs: LiveRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    """A round goes on while a page is rendered, however long that takes."""
    begun, go_on = threading.Event(), threading.Event()

    def render(*_: object) -> dict[str, str]:
        begun.set()
        assert go_on.wait(60)
        return {"live": "rendered"}

    monkeypatch.setattr(live_runs, "live_sections", render)
    source = runs.source()
    rendering = threading.Thread(target=source.sections)
    rendering.start()
    assert begun.wait(60)
    runs.put("seeded", NOW)
    go_on.set()
    rendering.join(60)
    assert source.version() == 1


def test_only_so_many_may_watch(server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_server, "_MOST_STREAMS", 1)
    first = get(server, "/events")
    event(first)
    second = get(server, "/events")
    assert (second.status, second.read()) == (503, b"too many watch this page\n")


def test_it_is_shown_in_no_frame(server: LiveServer) -> None:
    assert get(server, "/").headers["x-frame-options"] == "DENY"


def test_it_knows_whether_anybody_looks(server: LiveServer) -> None:
    assert not server.watched()
    get(server, "/state").read()
    assert server.watched()
    server._looked = -1e9
    assert not server.watched()
    stream = get(server, "/events")
    event(stream)
    assert server.watched()


@pytest.mark.parametrize("host", ["::1", "::"])
def test_it_listens_on_ipv6(host: str) -> None:
    made = LiveServer(LiveRuns("").source(), host, 0)
    try:
        assert made.url == f"http://localhost:{made.port}/"
        with socket.create_connection(("::1", made.port), timeout=10.0):
            pass
        if host == "::":  # and so on all addresses, as others know it from 0.0.0.0
            with socket.create_connection(("127.0.0.1", made.port), timeout=10.0):
                pass
    finally:
        made.close()


def test_a_port_in_use_is_named_with_its_option() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        pytest.raises(PortInUse, match="--page-port"),
    ):
        LiveServer(LiveRuns("").source(), "127.0.0.1", other.getsockname()[1])
    with pytest.raises(ConfigError, match="--page-port"):
        LiveServer(LiveRuns("").source(), "203.0.113.1", 0)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "[" * 100_000, '{"modes": 3}', '{"modes": {"seeded": {}}}']
)
def test_what_is_no_state_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  the wording of the json module varies
        read_state(text.encode())
