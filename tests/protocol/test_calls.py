"""What a call costs before it is made: nothing is signed or put together for one that is not due."""

from __future__ import annotations

from unittest.mock import patch

from smpcfl.protocol.exchange_round import LACKING_AFTER_S, MOST_QUESTIONS
from smpcfl.protocol.messages import Exchange, Ready
from smpcfl.protocol.receipts import ListRequest
from smpcfl.protocol.retry import LONGEST_S
from support.forge import round_of
from support.network import Network, make_ticket, peer_ids


def test_a_receipt_is_signed_once_for_all_neighbours() -> None:
    network = Network(make_ticket(5)).until("start")
    round_, signatures = round_of(network, 0), list[bytes]()
    sign = round_._signer
    round_._receipts._signer = lambda message: signatures.append(message) or sign(message)
    for call in round_.calls(0.0):
        assert isinstance(call.message, Exchange)
        reply = network.handle(call.to, peer_ids(5)[0], call.message)
        round_.answered(call, reply, 0.0)
    made = [call.message for call in round_.calls(0.0)]
    assert {message.receipt for message in made if isinstance(message, Ready)} == {
        round_._receipts.own
    }
    assert len(made) == 4
    assert round_.calls(0.0) == []
    assert len(signatures) == 1


def test_a_ready_in_flight_is_not_made_again() -> None:
    network = Network(make_ticket(5)).until("exchange")
    round_, later = round_of(network, 0), network.now + LONGEST_S
    made = {call.to for call in round_.calls(later) if isinstance(call.message, Ready)}
    assert made == set(peer_ids(5)[1:])
    with patch.object(round_, "_ready_for", side_effect=AssertionError):
        assert round_.calls(later) == []


def test_a_question_in_flight_is_not_asked_again() -> None:
    """Nor are more than a few asked at a time: the answer to one is mostly the answer to all."""
    n = MOST_QUESTIONS + 4
    pair = {("peer-00000", "peer-00001"), ("peer-00001", "peer-00000")}
    network = Network(make_ticket(n), cut=pair).until("exchange")
    network.now = network.ticket.deadlines.exchange / 1000
    network.pump((Ready,))
    round_, late = round_of(network, 0), network.now + LACKING_AFTER_S
    asked = [call for call in round_.calls(late) if isinstance(call.message, ListRequest)]
    assert len(asked) == MOST_QUESTIONS
    assert not [call for call in round_.calls(late) if isinstance(call.message, ListRequest)]
    round_.answered(asked[0], network.handle(asked[0].to, "peer-00000", asked[0].message), late)
    round_.failed(asked[1], late)
    assert not [call for call in round_.calls(late + 9) if isinstance(call.message, ListRequest)]
