"""The folder that an operator gives a registry: the CA, and a join token for each role."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..base import files
from ..base.state import AuthorityFolder
from ..net.certificates import Role
from .ca import load_or_make_ca
from .tokens import new_token


def make(folder: Path) -> Iterator[tuple[Path, bool]]:
    """Makes what is missing there; yields each file, and whether it is new. What is there stays as it is.

    IdentityError if a CA is there that is none, or lacks its key.
    """
    paths = AuthorityFolder(folder)
    there = {path: path.exists() for path in (paths.ca_key, paths.ca)}
    load_or_make_ca(folder)
    for path, was_there in there.items():
        yield path, not was_there
    for role in (Role.PEER, Role.AGGREGATOR):
        path = paths.token(role)
        is_new = not path.exists()
        if is_new:
            files.write_private(path, new_token().encode())
        yield path, is_new
