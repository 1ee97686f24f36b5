"""Join tokens: secrets of 256 bits that let a machine enrol. Only their hashes are kept here."""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
from pathlib import Path

from ..identity import Role, write_private
from ..protocol.errors import Reason, RemoteError
from ..protocol.signing import AGGREGATOR

_KEEP_EXPIRED_S = 7 * 86400.0  # so long a token is refused as expired, and as unknown from then on
_LONGEST = 512


class Tokens:
    """One file a token in `folder`, by its hash, so that `smpcfl token` may add one at any time.

    All times are in seconds since the epoch.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def make(self, role: Role, until: float, *, name: str = "", once: bool = False) -> str:
        """A new token for `role`, good until `until`; for one peer id if `name`, for one use if `once`."""
        token = secrets.token_urlsafe(32)
        record = {"role": role.value, "until": until, "name": name, "once": once}
        write_private(self._path(token), json.dumps(record).encode())
        return token

    def check(self, token: str, role: Role, name: str, now: float) -> Path:
        """The file of this token; RemoteError(BAD_TOKEN) says what is wrong with it."""
        if not token:
            raise RemoteError(Reason.BAD_TOKEN, "no join token was given", peer=name)
        if len(token) > _LONGEST:
            raise RemoteError(Reason.BAD_TOKEN, "no such join token", peer=name)
        # Found by the hash of what is given: the time that takes tells nothing about a token's bytes.
        path = self._path(token)
        try:
            record = json.loads(path.read_bytes())
        except FileNotFoundError:
            raise RemoteError(
                Reason.BAD_TOKEN, "no such join token, or it was used", peer=name
            ) from None
        if record["role"] != role.value:
            raise RemoteError(Reason.BAD_TOKEN, f"not a join token for role {role}", peer=name)
        if record["until"] <= now:
            raise RemoteError(Reason.BAD_TOKEN, "this join token has expired", peer=name)
        if record["name"] not in ("", name):
            raise RemoteError(Reason.BAD_TOKEN, "a join token for another peer id", peer=name)
        return path

    def spend(self, path: Path, name: str) -> None:
        """After its use. RemoteError(BAD_TOKEN) if somebody else was faster with a one-time token."""
        try:
            if json.loads(path.read_bytes())["once"]:
                path.unlink()
        except FileNotFoundError:
            raise RemoteError(Reason.BAD_TOKEN, "this join token was used", peer=name) from None

    def drop_unbound(self, role: Role) -> None:
        """Forgets the tokens for `role` that any peer id may use."""
        for path in self._folder.glob("*.json"):
            record = json.loads(path.read_bytes())
            if record["role"] == role.value and not record["name"]:
                path.unlink(missing_ok=True)

    def sweep(self, now: float) -> None:
        """Forgets tokens that expired long ago."""
        for path in self._folder.glob("*.json"):
            with contextlib.suppress(OSError, ValueError, KeyError):
                if json.loads(path.read_bytes())["until"] + _KEEP_EXPIRED_S < now:
                    path.unlink()

    def _path(self, token: str) -> Path:
        return self._folder / f"{hashlib.sha256(token.encode()).hexdigest()}.json"


class JoinToken:
    """The token in `path`, which any number of replicas may use: replaced at half of its life."""

    def __init__(self, tokens: Tokens, role: Role, path: Path, life_s: float) -> None:
        self._tokens = tokens
        self._role = role
        self._path = path
        self._life_s = life_s

    def keep_fresh(self, now: float) -> None:
        """Writes the first one, or the next if half of the last one's life is over."""
        name = AGGREGATOR if self._role is Role.AGGREGATOR else ""
        try:
            known = self._tokens.check(self._path.read_text().strip(), self._role, name, now)
            if json.loads(known.read_bytes())["until"] - now > self._life_s / 2:
                return
        except (OSError, RemoteError):
            pass  # none yet, or no longer good
        token = self._tokens.make(self._role, now + self._life_s)
        write_private(self._path, token.encode())
        self._tokens.sweep(now)
