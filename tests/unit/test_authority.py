"""The registry's CA and its join folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from smpcfl import identity
from smpcfl.registry.authority import Authority


def test_who_sees_the_ca_certificate_finds_the_token_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, seen = identity.write_private, []

    def watched(path: Path, content: bytes, mode: int = 0o600) -> None:
        write(path, content, mode)
        if path.name == "ca.pem" and path.parent.parent == tmp_path / "join":
            seen.append((path.parent.name, path.with_name("token").exists()))

    monkeypatch.setattr(identity, "write_private", watched)
    Authority(tmp_path / "state", tmp_path / "join")
    assert sorted(seen) == [("aggregator", True), ("peer", True)]
