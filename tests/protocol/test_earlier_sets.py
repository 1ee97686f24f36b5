"""An agreement names the other survivor set over this model: who hears of two others does not answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from smpc.v1 import messages_pb2 as pb
from smpcfl.net import wire
from smpcfl.protocol.errors import Reason, RemoteError
from support.forge import agreement, round_of, survivors
from support.network import Network, make_ticket

EVERYONE = tuple(range(8))
ONE, TWO = bytes([1]) * 32, bytes([2]) * 32


@pytest.fixture
def network() -> Network:
    return Network(make_ticket(8)).until("upload")


@pytest.mark.parametrize(
    ("named", "answers"),
    [
        ([b"", b"", b"", b"", b""], True),
        ([ONE, ONE, b"", ONE, b""], True),
        ([ONE, b"", b"", b"", TWO], False),
    ],
)
def test_who_hears_of_two_other_sets_does_not_answer(
    network: Network, named: list[bytes], answers: bool
) -> None:
    message, peer = survivors(network, EVERYONE), round_of(network, 0)
    peer.survivors(message, network.now)
    for index, earlier in enumerate(named, 1):
        peer.agreement(agreement(network, index, message, earlier=earlier))
    if answers:
        assert peer.answer(network.now) is not None
        return
    for _ in range(2):
        with pytest.raises(RemoteError) as error:
            peer.answer(network.now)
        assert error.value.reason is Reason.CONFLICTING_SURVIVORS


def test_its_own_other_set_counts_too(network: Network) -> None:
    message, peer = survivors(network, EVERYONE), round_of(network, 0)
    before = make_ticket(8, serial=7, min_survivors=3).ticket
    peer._ledger.agree(before, (0, 1, 2, 3), network.policy)
    peer.survivors(message, network.now)
    for index in range(1, 6):
        peer.agreement(agreement(network, index, message, earlier=ONE))
    with pytest.raises(RemoteError) as error:
        peer.answer(network.now)
    assert error.value.reason is Reason.CONFLICTING_SURVIVORS


def test_those_who_agree_to_another_set_are_not_asked(network: Network) -> None:
    peer, message = round_of(network, 0), survivors(network, EVERYONE)
    peer.survivors(message, network.now)
    other = survivors(network, EVERYONE[:7])
    for index, earlier in ((6, ONE), (7, TWO)):
        peer.agreement(agreement(network, index, other, earlier=earlier))
    for index in range(1, 6):
        peer.agreement(agreement(network, index, message))
    assert peer.answer(network.now) is not None


def test_another_earlier_set_is_another_agreement(network: Network) -> None:
    message, peer = survivors(network, EVERYONE), round_of(network, 0)
    peer.agreement(agreement(network, 1, message, earlier=ONE))
    peer.agreement(agreement(network, 1, message, earlier=ONE))
    with pytest.raises(RemoteError) as error:
        peer.agreement(agreement(network, 1, message))
    assert error.value.reason is Reason.EQUIVOCATION
    stripped = replace(agreement(network, 2, message, earlier=ONE), earlier=b"")
    with pytest.raises(RemoteError) as error:
        peer.agreement(stripped)
    assert error.value.reason is Reason.BAD_SIGNATURE


@pytest.mark.parametrize("earlier", [b"", ONE])
def test_the_wire_keeps_the_earlier_set(network: Network, earlier: bytes) -> None:
    own = agreement(network, 1, survivors(network, EVERYONE), earlier=earlier)
    raw = wire.agreement_to_proto(own).SerializeToString()
    read = wire.agreement_from_proto(wire.parse(pb.Agreement, raw), network.ticket.digest)
    assert read == own


def test_an_earlier_set_is_a_digest_or_none(network: Network) -> None:
    own = agreement(network, 1, survivors(network, EVERYONE))
    with pytest.raises(RemoteError) as error:
        replace(own, earlier=bytes(31))
    assert error.value.reason is Reason.MALFORMED
