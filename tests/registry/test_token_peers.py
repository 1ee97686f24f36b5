"""How many peers the join folder's token lets in, and that it says so."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from smpcfl.base.config import ConfigError, Settings
from smpcfl.net import certificates
from smpcfl.net.certificates import Role
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.registry.authority import Authority, make_token, revoke

DAY_S = 86400.0


class Registry:
    def __init__(self, folder: Path, most: int) -> None:
        self.state, self.join = folder / "state", folder / "join"
        self.now, self._most = 0.0, most
        self.restart()

    def restart(self, most: int | None = None) -> None:
        self._most = most or self._most
        self.authority = Authority(
            self.state, self.join, token_peers=self._most, clock=lambda: self.now
        )

    def enrol(self, name: str, token: str = "", role: Role = Role.PEER) -> None:
        key = certificates.new_key()
        csr = certificates.signing_request(key, role, name)
        token = token or (self.join / role / "token").read_text()
        self.authority.enrol(token, csr, role, name)

    def refusal(self, name: str) -> str:
        with pytest.raises(RemoteError) as caught:
            self.enrol(name)
        assert caught.value.reason is Reason.BAD_TOKEN
        return str(caught.value)


def test_so_many_ids_and_no_more_in_all_of_its_lives(tmp_path: Path) -> None:
    registry = Registry(tmp_path, 3)
    for name in ("a", "b"):
        registry.enrol(name)
    first = (registry.join / "peer" / "token").read_text()
    registry.now = DAY_S * 0.6
    registry.restart()
    assert (registry.join / "peer" / "token").read_text() != first
    registry.enrol("c")
    text = registry.refusal("d")
    for part in ("enrolled 3", "may enrol 3", "SMPCFL_TOKEN_PEERS", "smpcfl token --peer"):
        assert part in text
    registry.restart()
    assert "may enrol 3" in registry.refusal("d")
    registry.restart(most=4)
    registry.enrol("d")
    assert "may enrol 4" in registry.refusal("e")


def test_who_was_here_before_counts_once(tmp_path: Path) -> None:
    registry = Registry(tmp_path, 2)
    registry.enrol("a")
    registry.now = 1.5 * DAY_S  # its certificate has expired
    registry.authority.keep_tokens()
    registry.enrol("a")
    registry.enrol("b")
    registry.now = 3.0 * DAY_S
    registry.authority.keep_tokens()
    registry.enrol("b")
    registry.refusal("c")


def test_tokens_of_their_own_and_the_aggregators_do_not_count(tmp_path: Path) -> None:
    registry = Registry(tmp_path, 1)
    registry.enrol("aggregator", role=Role.AGGREGATOR)
    registry.enrol("a", make_token(registry.state, "a", DAY_S))
    registry.enrol("b", make_token(registry.state, "", DAY_S))
    registry.enrol("c")
    registry.refusal("d")
    registry.enrol("d", make_token(registry.state, "d", DAY_S))


def test_refusals_and_revocations_change_nothing(tmp_path: Path) -> None:
    registry = Registry(tmp_path, 2)
    registry.enrol("a")
    registry.authority.claims.reserve("mine")
    for name in ("mine", "a"):  # reserved; another's key
        with pytest.raises(RemoteError) as caught:
            registry.enrol(name)
        assert caught.value.reason is Reason.NAME_TAKEN
    revoke(registry.state, "a")
    (registry.state / "join-folder-closed").unlink()
    registry.authority.keep_tokens()
    registry.enrol("b")
    registry.refusal("c")


def test_each_is_told_with_the_count_and_the_last_ones_loudly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "smpcfl.registry")
    registry = Registry(tmp_path, 5)
    for name in "abcde":
        registry.enrol(name)
    told = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert [level for level, _ in told] == ["INFO"] * 3 + ["WARNING"] * 2
    assert [f"{number} of 5" in text for number, (_, text) in enumerate(told, 1)] == [True] * 5
    assert "SMPCFL_TOKEN_PEERS" in told[-1][1]


def test_the_setting() -> None:
    assert Settings().token_peers == 64
    with pytest.raises(ConfigError, match="SMPCFL_TOKEN_PEERS"):
        Settings(token_peers=0)
