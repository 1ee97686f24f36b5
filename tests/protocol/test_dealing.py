"""What a ready carries: as many confirmations as are needed; the announcement to who may not have it."""

from __future__ import annotations

import pytest

from smpcfl.protocol.dealing import make_ready
from support.forge import round_of
from support.network import Network, make_ticket


@pytest.mark.parametrize("to", [1, 4])
def test_a_ready_holds_t_confirmations_with_the_receivers_own(to: int) -> None:
    round_ = round_of(Network(make_ticket(5)).until("start"), 0)
    assert round_.ticket.threshold == 3
    confirmations = {index: bytes([index] * 64) for index in (3, 2, 1)}
    ready = make_ready(round_.ticket, round_.announcement, confirmations, to, 7)
    shown = [(item.holder, item.signature) for item in ready.confirmations]
    if to in confirmations:
        assert shown == [(2, confirmations[2]), (3, confirmations[3])]
        assert (ready.announcement, ready.failure_share) == (None, 0)
    else:
        assert shown == sorted(confirmations.items())
        assert (ready.announcement, ready.failure_share) == (round_.announcement, 7)


def test_more_confirmations_than_needed_stay_behind() -> None:
    round_ = round_of(Network(make_ticket(5)).until("start"), 0)
    confirmations = {index: bytes(64) for index in (1, 2, 3, 4)}
    for to in confirmations:
        ready = make_ready(round_.ticket, round_.announcement, confirmations, to, 7)
        assert len(ready.confirmations) == 2
