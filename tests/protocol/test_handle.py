"""`handle` hands each kind of message to what takes it, and refuses those of another mode."""

from __future__ import annotations

import pytest

from smpcfl.net.kinds import KINDS
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.messages import AdditiveShare, Call, ReadyReply
from smpcfl.protocol.ticket import ADDITIVE, SEEDED, SignedTicket
from support.network import Network, Round, make_ticket

NOW = 0.0


def started(mode: str) -> Network:
    return Network(make_ticket(3, mode=mode)).until("start")


def call_of(round_: Round) -> Call:
    """The last one that is due: the first ones may only offer the ticket."""
    return round_.calls(NOW)[-1]


@pytest.mark.parametrize(("mode", "other"), [(SEEDED, ADDITIVE), (ADDITIVE, SEEDED)])
def test_a_message_of_another_mode_is_refused(mode: str, other: str) -> None:
    call = call_of(next(iter(started(other).rounds.values())))
    with pytest.raises(RemoteError) as error:
        started(mode).rounds[call.to].handle("peer-00000", call.message, NOW)
    assert error.value.reason is Reason.POLICY_MODE
    assert error.value.found == mode
    assert type(call.message).__name__ in str(error.value)


@pytest.mark.parametrize("mode", [SEEDED, ADDITIVE])
def test_neither_a_ticket_nor_a_reply_is_for_the_round(mode: str) -> None:
    network = started(mode)
    round_ = next(iter(network.rounds.values()))
    for message in (network.signed, ReadyReply()):
        with pytest.raises(RemoteError) as error:
            round_.handle("peer-00001", message, NOW)  # type: ignore[arg-type]
        assert error.value.reason is Reason.POLICY_MODE


def test_one_of_the_modes_takes_each_kind_that_there_is_a_method_for() -> None:
    taken = {
        mode: set(next(iter(started(mode).rounds.values()))._handlers())
        for mode in (SEEDED, ADDITIVE)
    }
    assert taken[ADDITIVE] == {AdditiveShare}
    assert taken[SEEDED] == KINDS.keys() - {AdditiveShare, SignedTicket}
