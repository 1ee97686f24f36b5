"""As much of Kubernetes' API server as reads and patches Secrets, over TLS, on loopback."""

from __future__ import annotations

import base64
import http.server
import json
import ssl
import threading
from pathlib import Path
from typing import Any

from smpcfl.net import certificates
from smpcfl.registry.authority import Authority

TOKEN = "of the service account"
FOLDER = "/api/v1/namespaces/here/secrets/"


class ApiServer:
    """Holds `secrets`: what is in each, in base64. `refusing`: so many calls get a 403."""

    def __init__(self, folder: Path, *names: str) -> None:
        """What its clients need, `token` and `ca.crt`, comes into `folder`."""
        self.secrets: dict[str, dict[str, str]] = {name: {} for name in names}
        self.versions = dict.fromkeys(names, 1)
        self.patched: list[str] = []
        self.refusing = 0
        authority = Authority(folder / "state", folder / "join")
        own = authority.own_identity(["127.0.0.1"])
        (folder / "token").write_text(f"{TOKEN}\n")
        (folder / "ca.crt").write_bytes(certificates.pem(authority.certificate))
        (folder / "server.pem").write_bytes(
            certificates.key_pem(own.key) + certificates.pem(own.certificate)
        )
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(folder / "server.pem")
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._server.server_port}/api/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def held(self, name: str) -> dict[str, bytes]:
        return {key: base64.b64decode(text) for key, text in self.secrets[name].items()}

    def answer(self, name: str, bearer: str, patch: Any) -> tuple[int, Any]:
        if bearer != f"Bearer {TOKEN}":
            return 401, {"message": "Unauthorized"}
        if self.refusing:
            self.refusing -= 1
            return 403, {"message": f'secrets "{name}" is forbidden'}
        if name not in self.secrets:
            return 404, {"message": f'secrets "{name}" not found'}
        if patch is not None:
            if patch.pop("metadata")["resourceVersion"] != str(self.versions[name]):
                return 409, {"message": "the object has been modified"}
            assert patch.keys() == {"data"}
            self.patched.append(name)
            self.change(name, patch["data"])
        version = {"name": name, "resourceVersion": str(self.versions[name])}
        # The real one leaves `data` out where there is none.
        return 200, {"metadata": version} | (
            {"data": self.secrets[name]} if self.secrets[name] else {}
        )

    def change(self, name: str, data: dict[str, str]) -> None:
        self.secrets[name] |= data
        self.versions[name] += 1

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(None)

            def do_PATCH(self) -> None:
                assert self.headers["Content-Type"] == "application/merge-patch+json"
                self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def _answer(self, patch: Any) -> None:
                assert self.path.startswith(FOLDER)
                name = self.path.removeprefix(FOLDER)
                code, content = server.answer(name, self.headers["Authorization"], patch)
                text = json.dumps(content).encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler
