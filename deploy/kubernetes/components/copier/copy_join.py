"""Copies each role's join folder to the Secret of that role, whenever it changes.

Runs in the registry's pod, on the standard library alone, and may do no more than patch these Secrets.
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import sys
import time
import urllib.request
from pathlib import Path

API = "https://kubernetes.default.svc/api/v1"
RIGHTS = Path("/api")
JOIN = Path("/run/smpcfl/join")
SECRETS = {"peer": "join-peer", "aggregator": "join-aggregator"}
EVERY_S = 5.0


def content(folder: Path) -> dict[str, str] | None:
    """Of a Secret, in base64; None as long as the registry has not written the folder.

    A token that was withdrawn is empty, and not absent: else pods that need none could not start either.
    """
    try:
        ca = (folder / "ca.pem").read_bytes()
    except FileNotFoundError:
        return None
    try:
        token = (folder / "token").read_bytes()
    except FileNotFoundError:
        token = b""
    found = {"ca.pem": ca, "token": token}
    return {name: base64.b64encode(data).decode() for name, data in found.items()}


def patch(namespace: str, secret: str, data: dict[str, str]) -> None:
    request = urllib.request.Request(
        f"{API}/namespaces/{namespace}/secrets/{secret}",
        data=json.dumps({"data": data}).encode(),
        method="PATCH",
        headers={
            # Read each time, because it is replaced every hour.
            "Authorization": f"Bearer {(RIGHTS / 'token').read_text().strip()}",
            "Content-Type": "application/merge-patch+json",
        },
    )
    trust = ssl.create_default_context(cafile=str(RIGHTS / "ca.crt"))
    with urllib.request.urlopen(request, timeout=10, context=trust):
        pass


def copy(namespace: str, join: Path, written: dict[str, dict[str, str]]) -> None:
    """`written`: what each Secret holds already."""
    for role, secret in SECRETS.items():
        found = content(join / role)
        if found is not None and written.get(secret) != found:
            patch(namespace, secret, found)
            written[secret] = found
            print(f"copied the join folder of role {role} to the Secret {secret}", flush=True)


def main() -> None:
    written: dict[str, dict[str, str]] = {}
    while True:
        try:
            copy(os.environ["NAMESPACE"], JOIN, written)
        except OSError as error:  # the API server's refusals too
            print(f"not copied yet: {error}", file=sys.stderr, flush=True)
        time.sleep(EVERY_S)


if __name__ == "__main__":
    main()
