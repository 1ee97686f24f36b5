"""What a call costs before it is made: nothing is signed or put together for one that is not due."""

from __future__ import annotations

from unittest.mock import patch

from smpcfl.protocol import peer_round as peer_module
from smpcfl.protocol.messages import Acknowledge, Exchange, Ready
from smpcfl.protocol.retry import LONGEST_S
from support.forge import round_of
from support.network import Network, make_ticket, peer_ids


def test_an_acknowledgement_in_flight_is_not_signed_again() -> None:
    network = Network(make_ticket(5)).until("start")
    round_ = round_of(network, 0)
    for call in round_.calls(0.0):
        assert isinstance(call.message, Exchange)
        reply = network.handle(call.to, peer_ids(5)[0], call.message)
        round_.answered(call, reply, 0.0)
    signatures: list[bytes] = []
    sign = round_._signer
    with patch.object(
        round_, "_signer", lambda message: signatures.append(message) or sign(message)
    ):
        kinds = [type(call.message) for call in round_.calls(0.0)]
        assert kinds.count(Acknowledge) == 4
        assert len(signatures) == 4
        assert round_.calls(0.0) == []
    assert len(signatures) == 4


def test_a_ready_in_flight_is_not_made_again() -> None:
    network = Network(make_ticket(5)).until("exchange")
    round_, later = round_of(network, 0), network.now + LONGEST_S
    made = {call.to for call in round_.calls(later) if isinstance(call.message, Ready)}
    assert made == set(peer_ids(5)[1:])
    with patch.object(peer_module, "make_ready", side_effect=AssertionError):
        assert round_.calls(later) == []
