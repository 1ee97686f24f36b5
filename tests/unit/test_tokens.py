"""Join tokens: who may use which, for how long, how often."""

from __future__ import annotations

from pathlib import Path

import pytest

from smpcfl.identity import Role
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.registry.tokens import JoinToken, Tokens

DAY_S = 86400.0


def refusal(tokens: Tokens, token: str, role: Role, name: str, now: float) -> str:
    with pytest.raises(RemoteError) as caught:
        tokens.check(token, role, name, now)
    assert caught.value.reason is Reason.BAD_TOKEN
    return str(caught.value)


def test_a_token_is_good_for_its_role_until_it_expires(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path)
    token = tokens.make(Role.PEER, 100.0)
    tokens.check(token, Role.PEER, "a", 99.9)
    assert "expired" in refusal(tokens, token, Role.PEER, "a", 100.0)
    assert "not a join token for role aggregator" in refusal(
        tokens, token, Role.AGGREGATOR, "aggregator", 1.0
    )
    assert "no join token was given" in refusal(tokens, "", Role.PEER, "a", 1.0)
    for wrong in (token[:-1], token + "A", "../" + token, "x" * 10_000, "\0"):
        assert "no such join token" in refusal(tokens, wrong, Role.PEER, "a", 1.0)


def test_a_token_for_one_peer_is_nobody_elses(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path)
    token = tokens.make(Role.PEER, 100.0, name="a")
    assert "another peer id" in refusal(tokens, token, Role.PEER, "b", 1.0)
    tokens.check(token, Role.PEER, "a", 1.0)


def test_a_one_time_token_is_good_once_even_for_two_at_the_same_moment(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path)
    token = tokens.make(Role.PEER, 100.0, once=True)
    first = tokens.check(token, Role.PEER, "a", 1.0)
    tokens.check(token, Role.PEER, "b", 1.0)
    tokens.spend(first, "a")
    with pytest.raises(RemoteError, match="was used"):
        tokens.spend(first, "b")
    assert "or it was used" in refusal(tokens, token, Role.PEER, "b", 1.0)


def test_tokens_are_kept_by_their_hash_alone(tmp_path: Path) -> None:
    token = Tokens(tmp_path).make(Role.PEER, 100.0)
    (kept,) = tmp_path.iterdir()
    assert token not in kept.name + kept.read_text()
    assert kept.stat().st_mode & 0o077 == 0


def test_the_join_token_is_replaced_at_half_of_its_life_and_the_old_one_lives_on(
    tmp_path: Path,
) -> None:
    tokens, path = Tokens(tmp_path / "tokens"), tmp_path / "token"
    join = JoinToken(tokens, Role.PEER, path, DAY_S)
    join.keep_fresh(0.0)
    first = path.read_text()
    join.keep_fresh(DAY_S * 0.49)
    assert path.read_text() == first
    join.keep_fresh(DAY_S * 0.5)
    second = path.read_text()
    assert second != first
    for token in (first, second):
        tokens.check(token, Role.PEER, "a", DAY_S * 0.9)
    assert "expired" in refusal(tokens, first, Role.PEER, "a", DAY_S)


def test_a_revocation_replaces_tokens_that_anyone_may_use(tmp_path: Path) -> None:
    tokens, path = Tokens(tmp_path / "tokens"), tmp_path / "token"
    join = JoinToken(tokens, Role.PEER, path, DAY_S)
    join.keep_fresh(0.0)
    first, bound = path.read_text(), tokens.make(Role.PEER, DAY_S, name="b")
    tokens.drop_unbound(Role.PEER)
    join.keep_fresh(1.0)
    assert path.read_text() != first
    assert "no such" in refusal(tokens, first, Role.PEER, "a", 1.0)
    tokens.check(bound, Role.PEER, "b", 1.0)


def test_what_expired_long_ago_is_forgotten(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path)
    tokens.make(Role.PEER, 0.0)
    live = tokens.make(Role.PEER, 20 * DAY_S)
    tokens.sweep(10 * DAY_S)
    assert len(list(tmp_path.iterdir())) == 1
    tokens.check(live, Role.PEER, "a", 10 * DAY_S)
