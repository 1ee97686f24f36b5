"""Join tokens: secrets of 256 bits that let a machine enrol. Only their hashes are kept here."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ..base.files import write_private
from ..base.state import AuthorityFolder
from ..net.certificates import IdentityError, Role
from ..protocol.errors import Reason, RemoteError
from ..protocol.signing import AGGREGATOR

_KEEP_EXPIRED_S = 7 * 86400.0  # so long a token is refused as expired, and as unknown from then on
_LONGEST = 512
_BYTES = 32
_FORM = re.compile(r"[A-Za-z0-9_-]{43}")  # what `new_token` makes


@dataclass(frozen=True)
class Token:
    """What is known of a token: all but the token. `until`: seconds since the epoch."""

    role: str
    until: float
    name: str = ""
    """The one peer id that it is for; empty for any."""
    once: bool = False
    used_by: str = ""
    """The key that used it, if it is good once: a machine that did not get the answer may ask again."""
    withdrawn: bool = False
    """For good, if it was for any number of machines: else it could be given again by mistake."""

    @property
    def is_shared(self) -> bool:
        """Whether it is one of the join folder's, for any number of machines."""
        return not (self.once or self.name)


def new_token() -> str:
    return secrets.token_urlsafe(_BYTES)


def is_token(text: str) -> bool:
    """Whether it has the form of one."""
    return bool(_FORM.fullmatch(text))


def given_path(given: AuthorityFolder | None, role: Role) -> Path | None:
    """Where the token for `role` is that the registry is given; None if it is given none."""
    path = given.token(role) if given is not None else None
    return path if path is not None and path.exists() else None


def read_given(path: Path) -> str:
    """The token that an operator put there; IdentityError if there is none."""
    try:
        token = path.read_text(errors="replace").strip()
    except OSError as error:
        raise IdentityError(
            f"{path} cannot be read ({error.strerror}): let this user read it"
        ) from error
    if not is_token(token):
        raise IdentityError(
            f"{path} holds no join token, which has 43 letters, digits, '-' and '_': make one with"
            " `smpcfl authority`"
        )
    return token


class Tokens:
    """One file a token in `folder`, by its hash, so that `smpcfl token` may add one at any time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def make(self, role: Role, until: float, *, name: str = "", once: bool = False) -> str:
        """A new token for `role`, good until `until`; for one peer id if `name`, for one use if `once`."""
        token = new_token()
        self._write(token, Token(role.value, until, name, once))
        return token

    def keep(self, token: str, role: Role, until: float) -> None:
        """Lets `token`, for any number of machines, be good until then; IdentityError if it was withdrawn."""
        if self.is_withdrawn(token):
            raise IdentityError(
                f"the join token for role {role} that this registry is given was withdrawn, by `smpcfl"
                " revoke` or because it was given another one: give it a new one (`smpcfl authority`)"
            )
        self._write(token, Token(role.value, until))

    def lasts(self, token: str, role: Role, now: float, life_s: float) -> bool:
        """Whether `token` is good for more than half of `life_s`, and no longer than all of it."""
        name = AGGREGATOR if role is Role.AGGREGATOR else ""
        try:
            known = self.check(token, role, name, "", now)
        except RemoteError:
            return False
        return life_s / 2 < known.until - now <= life_s

    def is_withdrawn(self, token: str) -> bool:
        found = self._read(self._path(token))
        return found is not None and found.withdrawn

    def check(self, token: str, role: Role, name: str, key: str, now: float) -> Token:
        """RemoteError(BAD_TOKEN) says what is wrong. `key`: of whoever shows the token, in any fixed form."""
        found = self._read(self._path(token)) if len(token) <= _LONGEST else None
        wrong = ""
        if not token:
            wrong = "no join token was given"
        elif found is None:
            wrong = "no such join token"
        elif found.role != role.value:
            wrong = f"not a join token for role {role}"
        elif found.withdrawn:
            wrong = "this join token was withdrawn"
        elif found.until <= now:
            wrong = "this join token has expired"
        elif found.name not in ("", name):
            wrong = "a join token for another peer id"
        elif found.used_by not in ("", key):
            wrong = "this join token was used"
        if wrong or found is None:
            raise RemoteError(Reason.BAD_TOKEN, wrong, peer=name)
        return found

    def use(self, token: str, found: Token, key: str) -> None:
        """From now on a token that is good once is good for `key` alone."""
        if found.once and not found.used_by:
            self._write(token, replace(found, used_by=key))

    def drop(self, token: str) -> None:
        self._path(token).unlink(missing_ok=True)

    def drop_unbound(self, role: Role) -> None:
        """From now on no token for `role` is good that any peer id may use."""
        self.withdraw_shared(role)
        for path, found in self._all():
            if found.role == role.value and found.once and not found.name:
                path.unlink(missing_ok=True)

    def withdraw_shared(self, role: Role, but: str = "") -> None:
        """The tokens for `role` that any number of machines may use are good no more, but the token `but`."""
        for path, found in self._all():
            counts = found.is_shared and not found.withdrawn
            if found.role == role.value and counts and path != self._path(but):
                write_private(path, _record(replace(found, withdrawn=True)))

    def sweep(self, now: float) -> None:
        """Forgets tokens that expired long ago."""
        for path, found in self._all():
            if found.until + _KEEP_EXPIRED_S < now and not found.withdrawn:
                path.unlink(missing_ok=True)

    def _all(self) -> Iterator[tuple[Path, Token]]:
        for path in self._folder.glob("*.json"):
            if (found := self._read(path)) is not None:
                yield path, found

    def _read(self, path: Path) -> Token | None:
        """None for one that is not there, or damaged, which is as good as none."""
        try:
            found = Token(**json.loads(path.read_bytes()))
            texts = (found.role, found.name, found.used_by)
            flags = (found.once, found.withdrawn)
            whole = all(isinstance(text, str) for text in texts) and all(
                isinstance(flag, bool) for flag in flags
            )
            return replace(found, until=float(found.until)) if whole else None
        except (FileNotFoundError, ValueError, TypeError, OverflowError, RecursionError):
            return None

    def _write(self, token: str, record: Token) -> None:
        write_private(self._path(token), _record(record))

    def _path(self, token: str) -> Path:
        # Found by the hash of what is given: the time that takes reveals nothing about a token's bytes.
        return self._folder / f"{hashlib.sha256(token.encode()).hexdigest()}.json"


def _record(token: Token) -> bytes:
    return json.dumps(asdict(token)).encode()


class JoinToken:
    """The token in `path`, which any number of replicas may use: replaced at half of its life."""

    def __init__(self, tokens: Tokens, role: Role, path: Path, life_s: float) -> None:
        self._tokens = tokens
        self.role = role
        self._path = path
        self._life_s = life_s

    def keep_fresh(self, now: float) -> None:
        """Writes the first one, or the next if half of the last one's life is over."""
        try:
            if self._tokens.lasts(self._path.read_text().strip(), self.role, now, self._life_s):
                return
        except (OSError, ValueError):
            pass  # none yet, or no text
        token = self._tokens.make(self.role, now + self._life_s)
        try:
            write_private(self._path, token.encode())
        except OSError:
            self._tokens.drop(token)
            raise
        self._tokens.sweep(now)

    def withdraw(self) -> None:
        """Takes the file away."""
        self._path.unlink(missing_ok=True)


class GivenToken:
    """A token that the operator gives the registry in `path`, for any number of machines.

    It is good for as long as the registry is given it, and meanwhile no other one for the role is; one that
    was withdrawn never is again. Once the registry is given none at all, it lasts for at most `life_s`.
    """

    def __init__(self, tokens: Tokens, role: Role, path: Path, life_s: float) -> None:
        """IdentityError unless `path` holds a token."""
        self._tokens = tokens
        self.role = role
        self._life_s = life_s
        self.token = read_given(path)
        tokens.withdraw_shared(role, but=self.token)

    def keep_fresh(self, now: float) -> None:
        """IdentityError for one that was withdrawn."""
        if self._tokens.lasts(self.token, self.role, now, self._life_s):
            return
        self._tokens.keep(self.token, self.role, now + self._life_s)
        self._tokens.sweep(now)

    def withdraw(self) -> None:
        """Nothing: `smpcfl revoke` has."""
