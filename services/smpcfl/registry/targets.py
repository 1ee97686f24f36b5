"""The HTTP page that lists for Prometheus whom to scrape."""

from __future__ import annotations

import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from ..base.config import cannot_listen
from ..base.host_port import family
from ..base.log import not_delivered
from .roster import Roster


def targets(roster: Roster) -> bytes:
    """Prometheus' HTTP service discovery: every living replica."""
    groups = [
        {"targets": [entry.metrics_address], "labels": {"peer": entry.peer}}
        for entry in roster.entries(time.monotonic())
    ]
    return json.dumps(groups).encode()


def serve_targets(host: str, port: int, roster: Roster) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path == "/targets"
            body = targets(roster) if known else b"see /targets\n"
            self.send_response(200 if known else 404)
            self.send_header("Content-Type", "application/json" if known else "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        address_family = family(host)

    try:
        server = Server((host, port), Handler)
    except OSError as error:
        raise cannot_listen(host, port, "targets-port", error) from error
    server.handle_error = not_delivered  # type: ignore[method-assign]
    Thread(target=server.serve_forever, daemon=True).start()
    return server
