"""What is particular to a peer's side of an `additive` round."""

from __future__ import annotations

from smpcfl.protocol.phases import Phase
from smpcfl.protocol.ticket import ADDITIVE
from support.network import Network, make_ticket, peer_ids


def test_masks_are_to_be_had_once_all_shares_are_here_and_no_more_after_the_upload() -> None:
    network = Network(make_ticket(3, mode=ADDITIVE)).until("start")
    round_ = network.rounds[peer_ids(3)[0]]
    assert not round_.masks_available(0.0)
    network.exchange()
    assert round_.masks_available(network.now)
    network.ready()
    network.upload()
    assert round_.phase is Phase.UPLOADED
    assert not round_.masks_available(network.now)
