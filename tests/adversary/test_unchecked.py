"""What takes a check out takes out that check, and says so if it is not there."""

from __future__ import annotations

import pytest

from smpcfl.protocol import peer_round as peer_module
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.messages import Header
from smpcfl.protocol.ring import Layout
from support.unchecked import check, removed, without

LAYOUT = Layout(16, 4, 8)


def test_only_the_check_that_is_named_is_gone() -> None:
    raw = bytes(LAYOUT.nbytes - 8)
    with removed(check(Layout, "parse", Reason.WRONG_LENGTH)):
        assert LAYOUT.parse(raw).raw == raw
    with pytest.raises(RemoteError):
        LAYOUT.parse(raw)


@pytest.mark.parametrize("what", [Reason.BAD_SHARE, "check_signature"])
def test_a_check_that_is_not_there_cannot_be_removed(what: Reason | str) -> None:
    with pytest.raises(AssertionError, match="no such check"):
        without(Layout.parse, Reason.WRONG_LENGTH, what)


def test_two_checks_of_one_function_go_together() -> None:
    before = (peer_module.check_survivors, Header.check)
    checks = [
        check(peer_module, "check_survivors", Reason.TOO_FEW_SURVIVORS),
        check(Header, "check", Reason.NOT_IN_COHORT),
        check(peer_module, "check_survivors", Reason.ISOLATED_SURVIVOR),
    ]
    with removed(*checks):
        assert "TOO_FEW_SURVIVORS" not in peer_module.check_survivors.__code__.co_names
        assert "ISOLATED_SURVIVOR" not in peer_module.check_survivors.__code__.co_names
        assert "NOT_IN_COHORT" in peer_module.check_survivors.__code__.co_names
        assert "NOT_IN_COHORT" not in Header.check.__code__.co_names
    assert (peer_module.check_survivors, Header.check) == before
