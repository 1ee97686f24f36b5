"""Which id belongs to which key, which ids are reserved, which came by a shared token, and who is revoked.

Files of the registry.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from ..base.files import write_private
from ..base.state import State
from ..protocol.errors import LocalError, Reason, RemoteError
from ..protocol.signing import AGGREGATOR


class Claims:
    """In `state`. `key` is a public key in hex, `now` and `until` are seconds since the epoch.

    Other processes (`smpcfl token`, `smpcfl revoke`) may write here at any time.
    """

    def __init__(self, state: Path) -> None:
        paths = State(state)
        self._claims = paths.claims
        self._reserved = paths.reserved
        self._revoked = paths.revoked
        self._shared = paths.shared

    def claim(self, name: str, key: str, until: float, now: float) -> None:
        """`name` belongs to `key` until `until`; RemoteError(NAME_TAKEN) while it is another's."""
        known = self._read(name)
        if known is not None and known[0] != key and known[1] > now:
            raise RemoteError(
                Reason.NAME_TAKEN,
                "held by another key until its certificate expires; if that key is lost, remove"
                f" {self._claims / name} at the registry, or use another id",
                peer=name,
            )
        write_private(self._claims / name, json.dumps({"key": key, "until": until}).encode())

    def reserve(self, name: str) -> None:
        """From now on `name` is for tokens that are made for it."""
        write_private(self._reserved / name, b"")

    def is_reserved(self, name: str) -> bool:
        return (self._reserved / name).exists()

    def count_shared(self, name: str, most: int) -> int:
        """How many ids shared tokens have enrolled, with `name` from now on, unless it was here before.

        RemoteError(BAD_TOKEN) if that would be more than `most`.
        """
        known = _names(self._shared)
        if name in known or (self._claims / name).exists():
            return len(known)
        if len(known) >= most:
            raise RemoteError(
                Reason.BAD_TOKEN,
                f"the join folder's tokens have enrolled {len(known)} peer ids, and may enrol {most}: raise"
                " SMPCFL_TOKEN_PEERS at the registry, or use a token of this peer's own (smpcfl token"
                " --peer ID)",
                peer=name,
            )
        write_private(self._shared / name, b"")
        return len(known) + 1

    def revoked(self) -> frozenset[str]:
        """Peer ids."""
        return _names(self._revoked)

    def revoke(self, name: str) -> None:
        """Puts out its id and its key, for good. LocalError if there is no such peer."""
        found = os.listdir(self._claims) if self._claims.exists() else []
        known = sorted(set(found) - {AGGREGATOR})  # which is replaced, with all that trusts it
        claim = self._read(name) if name in known else None
        if claim is None:
            raise LocalError(
                f"no peer {name!r} has enrolled here; known are {', '.join(known) or 'none'}"
            )
        write_private(self._revoked / name, claim[0].encode())

    def check(self, name: str, key: str) -> None:
        """RemoteError(REVOKED) by id, and by key: nobody comes back under another id."""
        revoked = self.revoked()
        keys = ((self._revoked / item).read_bytes() for item in revoked)
        if name in revoked or key.encode() in keys:
            raise RemoteError(Reason.REVOKED, peer=name)

    def enrolled(self, now: float) -> dict[str, str]:
        """The key of each peer whose certificate may still be good, by id."""
        revoked, found = self.revoked(), {}
        for name in sorted(_names(self._claims) - revoked - {AGGREGATOR}):
            claim = self._read(name)
            if claim is not None and claim[1] > now:
                found[name] = claim[0]
        return found

    def _read(self, name: str) -> tuple[str, float] | None:
        path = self._claims / name
        try:
            claim = json.loads(path.read_bytes())
            return str(claim["key"]), float(claim["until"])
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            raise LocalError(f"{path} is damaged ({error}): remove it") from error


def _names(folder: Path) -> frozenset[str]:
    found = os.listdir(folder) if folder.exists() else ()
    return frozenset(name for name in found if not name.startswith("."))  # one is being written
