"""Whose id is whose: files that other processes of the registry write as well."""

from __future__ import annotations

from pathlib import Path

import pytest

from smpcfl.protocol.errors import LocalError, Reason, RemoteError
from smpcfl.protocol.signing import AGGREGATOR
from smpcfl.registry.claims import Claims


@pytest.fixture
def claims(tmp_path: Path) -> Claims:
    return Claims(tmp_path)


def test_an_id_is_its_keys_until_the_certificate_expires(claims: Claims, tmp_path: Path) -> None:
    claims.claim("a", "key-1", until=100.0, now=0.0)
    claims.claim("a", "key-1", until=200.0, now=50.0)
    with pytest.raises(RemoteError) as error:
        claims.claim("a", "key-2", until=300.0, now=199.0)
    assert error.value.reason is Reason.NAME_TAKEN
    assert f"remove {tmp_path / 'claims' / 'a'} at the registry" in str(error.value)
    claims.claim("a", "key-2", until=300.0, now=200.0)
    with pytest.raises(RemoteError):
        claims.claim("a", "key-1", until=400.0, now=299.0)


def test_a_claim_that_is_damaged_is_named(claims: Claims, tmp_path: Path) -> None:
    claims.claim("a", "key-1", until=100.0, now=0.0)
    (tmp_path / "claims" / "a").write_text("{")
    with pytest.raises(LocalError, match=r"claims/a is damaged .*: remove it"):
        claims.claim("a", "key-1", until=100.0, now=0.0)


def test_a_revoked_peer_comes_back_neither_by_id_nor_by_key(claims: Claims, tmp_path: Path) -> None:
    claims.claim("a", "key-1", until=100.0, now=0.0)
    claims.claim("b", "key-2", until=100.0, now=0.0)
    Claims(tmp_path).revoke("a")  # as another process does
    assert claims.revoked() == {"a"}
    for name, key in (("a", "key-9"), ("c", "key-1")):
        with pytest.raises(RemoteError) as error:
            claims.check(name, key)
        assert error.value.reason is Reason.REVOKED
    claims.check("b", "key-2")


def test_only_peers_that_enrolled_can_be_revoked(claims: Claims) -> None:
    with pytest.raises(LocalError, match=r"no peer 'a' has enrolled here; known are none"):
        claims.revoke("a")
    for name in ("c", "b", AGGREGATOR):
        claims.claim(name, f"key of {name}", until=100.0, now=0.0)
    for name in ("a", AGGREGATOR, "../claims/b"):
        with pytest.raises(LocalError, match=r"has enrolled here; known are b, c$"):
            claims.revoke(name)
    assert claims.revoked() == frozenset()


def test_shared_tokens_count_each_new_id_once(claims: Claims) -> None:
    assert [claims.count_shared(name, 2) for name in ("a", "b", "a")] == [1, 2, 2]
    with pytest.raises(RemoteError) as error:
        claims.count_shared("c", 2)
    assert error.value.reason is Reason.BAD_TOKEN
    assert "have enrolled 2 peer ids, and may enrol 2: raise SMPCFL_TOKEN_PEERS" in str(error.value)
    claims.claim("c", "key-3", until=100.0, now=0.0)
    assert claims.count_shared("c", 2) == 2, "it has enrolled with a token of its own"


def test_a_file_that_is_being_written_is_no_peer(claims: Claims, tmp_path: Path) -> None:
    (tmp_path / "revoked").mkdir()
    (tmp_path / "revoked" / ".a.123").touch()
    assert claims.revoked() == frozenset()


def test_a_reserved_id_stays_so(claims: Claims, tmp_path: Path) -> None:
    assert not claims.is_reserved("a")
    claims.reserve("a")
    assert Claims(tmp_path).is_reserved("a")
