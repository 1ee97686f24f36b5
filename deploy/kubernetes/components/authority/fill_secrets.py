"""Fills the Secrets of a deployment with the CA and the join tokens that `smpcfl authority` made, once.

`registry-authority` first, in one piece; those of peers and aggregator are copies of what is in it. What is
in the first stays, above all the CA, because under another one nobody knows the others any more. Runs in the
Job of this folder, on the standard library alone, and may do no more than read and patch these three.
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

API = "https://kubernetes.default.svc/api/v1"
RIGHTS = Path("/api")
MADE = Path("/made")
AUTHORITY = "registry-authority"
CA = ("ca-key.pem", "ca.pem")
TOKENS = {"join-peer": "peer-token", "join-aggregator": "aggregator-token"}
EVERY_S = 5.0


class Trouble(Exception):
    """What an operator has to put right; it is tried again until then."""


class Secret(NamedTuple):
    """As it was read: what it holds, in base64 and without what is empty, and of which version that is."""

    data: dict[str, str]
    version: str


def call(namespace: str, secret: str, patch: dict[str, Any] | None = None) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{API}/namespaces/{namespace}/secrets/{secret}",
        data=None if patch is None else json.dumps(patch).encode(),
        method="GET" if patch is None else "PATCH",
        headers={
            # Read each time, because it is replaced within the hour.
            "Authorization": f"Bearer {(RIGHTS / 'token').read_text().strip()}",
            "Content-Type": "application/merge-patch+json",
        },
    )
    trust = ssl.create_default_context(cafile=str(RIGHTS / "ca.crt"))
    try:
        with urllib.request.urlopen(request, timeout=10, context=trust) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
    except urllib.error.HTTPError as error:
        said = error.read().decode(errors="replace")
        remedy = ": apply the overlay, which has it" if error.code == 404 else ""
        raise Trouble(f"Secret {secret}: {error.code} {error.reason}{remedy} ({said})") from error
    except (OSError, ValueError) as error:
        raise Trouble(f"no answer of the API server {API}: {error}") from error


def read(namespace: str, name: str) -> Secret:
    found = call(namespace, name)
    data = {key: text for key, text in (found.get("data") or {}).items() if text}
    return Secret(data, found["metadata"]["resourceVersion"])


def write(namespace: str, name: str, found: Secret, wanted: dict[str, str]) -> None:
    """Refused by the API server if somebody has changed it since it was read."""
    if found.data.items() >= wanted.items():
        print(f"Secret {name}: filled already, and stays", flush=True)
        return
    patch = {"metadata": {"resourceVersion": found.version}, "data": wanted}
    call(namespace, name, patch)
    print(f"Secret {name}: filled", flush=True)


def whole(there: dict[str, str], made: dict[str, str]) -> dict[str, str]:
    """`there`, and what it lacks out of `made`; of a CA, both parts or none."""
    parts = [name for name in CA if name in there]
    if len(parts) == 1:
        raise Trouble(
            f"Secret {AUTHORITY} has {parts[0]} alone of {' and '.join(CA)}: put the other back"
        )
    return made | {name: there[name] for name in made if name in there}


def fill(namespace: str, folder: Path) -> None:
    """Trouble if anything is in the way; what was written until then stays, and is found the next time."""
    made = {
        name: base64.b64encode((folder / name).read_bytes()).decode()
        for name in (*CA, *TOKENS.values())
    }
    authority = read(namespace, AUTHORITY)
    joins = {name: read(namespace, name) for name in TOKENS}
    wanted = whole(authority.data, made)
    for name, join in joins.items():
        if join.data.get("ca.pem", wanted["ca.pem"]) != wanted["ca.pem"]:
            raise Trouble(
                f"Secret {name} has another ca.pem than {AUTHORITY} has, or would get: restore {AUTHORITY};"
                f" or, for a new deployment, delete {', '.join(TOKENS)} and the volumes, and apply again"
            )
    write(namespace, AUTHORITY, authority, wanted)
    for name, join in joins.items():
        write(namespace, name, join, {"ca.pem": wanted["ca.pem"], "token": wanted[TOKENS[name]]})


def main() -> None:
    said = ""
    while True:
        try:
            fill(os.environ["NAMESPACE"], MADE)
            return
        except Trouble as trouble:
            if str(trouble) != said:  # once, however long it lasts
                said = str(trouble)
                print(f"not filled yet: {said}", file=sys.stderr, flush=True)
        time.sleep(EVERY_S)


if __name__ == "__main__":
    main()
