"""Join tokens: who may use which, for how long, how often."""

from __future__ import annotations

from pathlib import Path

import pytest

from smpcfl.base import files
from smpcfl.net.certificates import Role
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.registry import tokens as module
from smpcfl.registry.tokens import JoinToken, Tokens

DAY_S = 86400.0
KEY, OTHER = "02aa", "02bb"


def refusal(tokens: Tokens, token: str, role: Role, name: str, now: float, key: str = KEY) -> str:
    with pytest.raises(RemoteError) as caught:
        tokens.check(token, role, name, key, now)
    assert caught.value.reason is Reason.BAD_TOKEN
    return str(caught.value)


def test_a_token_is_good_for_its_role_until_it_expires(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path)
    token = tokens.make(Role.PEER, 100.0)
    tokens.check(token, Role.PEER, "a", KEY, 99.9)
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
    tokens.check(token, Role.PEER, "a", KEY, 1.0)


def test_a_one_time_token_is_good_for_one_key_whose_answer_may_have_been_lost(
    tmp_path: Path,
) -> None:
    tokens = Tokens(tmp_path)
    token = tokens.make(Role.PEER, 100.0, once=True)
    tokens.use(token, tokens.check(token, Role.PEER, "a", KEY, 1.0), KEY)
    assert "was used" in refusal(tokens, token, Role.PEER, "b", 1.0, OTHER)
    again = tokens.check(token, Role.PEER, "a", KEY, 2.0)
    tokens.use(token, again, KEY)
    assert "was used" in refusal(tokens, token, Role.PEER, "b", 1.0, OTHER)


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
        tokens.check(token, Role.PEER, "a", KEY, DAY_S * 0.9)
    assert "expired" in refusal(tokens, first, Role.PEER, "a", DAY_S)


def test_a_shorter_life_replaces_a_token_of_a_longer_one(tmp_path: Path) -> None:
    tokens, path = Tokens(tmp_path / "tokens"), tmp_path / "token"
    JoinToken(tokens, Role.PEER, path, 300 * DAY_S).keep_fresh(0.0)
    first = path.read_text()
    JoinToken(tokens, Role.PEER, path, DAY_S).keep_fresh(0.0)
    assert path.read_text() != first


def test_a_revocation_drops_the_tokens_that_anyone_may_use(tmp_path: Path) -> None:
    tokens, path = Tokens(tmp_path / "tokens"), tmp_path / "token"
    join = JoinToken(tokens, Role.PEER, path, DAY_S)
    join.keep_fresh(0.0)
    first, bound = path.read_text(), tokens.make(Role.PEER, DAY_S, name="b")
    (tmp_path / "tokens" / "damaged.json").write_text("{")
    tokens.drop_unbound(Role.PEER)
    assert "was withdrawn" in refusal(tokens, first, Role.PEER, "a", 1.0)
    tokens.check(bound, Role.PEER, "b", KEY, 1.0)


def test_what_expired_long_ago_is_forgotten(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path)
    tokens.make(Role.PEER, 0.0)
    live = tokens.make(Role.PEER, 20 * DAY_S)
    tokens.sweep(10 * DAY_S)
    assert len(list(tmp_path.iterdir())) == 1
    tokens.check(live, Role.PEER, "a", KEY, 10 * DAY_S)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"role": "peer"}', '{"x": 1}', '{"role": "peer", "until": ""}']
)
def test_a_damaged_record_is_as_good_as_none(tmp_path: Path, content: str) -> None:
    tokens, path = Tokens(tmp_path / "tokens"), tmp_path / "token"
    join = JoinToken(tokens, Role.PEER, path, DAY_S)
    join.keep_fresh(0.0)
    (record,) = (tmp_path / "tokens").iterdir()
    record.write_text(content)
    assert "no such" in refusal(tokens, path.read_text(), Role.PEER, "a", 1.0)
    join.keep_fresh(0.0)
    tokens.check(path.read_text(), Role.PEER, "a", KEY, 1.0)


def test_a_join_folder_that_is_full_leaves_no_records_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *content: bytes, mode: int = 0o600) -> None:
        if path.name == "token":
            raise OSError(28, "No space left on device")
        files.write_private(path, *content, mode=mode)

    monkeypatch.setattr(module, "write_private", full)
    join = JoinToken(Tokens(tmp_path / "tokens"), Role.PEER, tmp_path / "token", DAY_S)
    with pytest.raises(OSError, match="No space"):
        join.keep_fresh(0.0)
    assert list((tmp_path / "tokens").iterdir()) == []
