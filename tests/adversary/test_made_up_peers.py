"""Cohort members whom the aggregator makes up, and the aggregator as a member itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.signing import AGGREGATOR, Keyring
from smpcfl.protocol.ticket import SignedTicket, Ticket
from support.attacker import show
from support.forge import round_of
from support.network import Network, keyring_of, make_ticket, peer_ids, sign
from support.unchecked import check, removed

VICTIM = 0
GHOSTS = (1, 2)


@dataclass
class Gullible:
    """Takes anyone for whom it says it is: what is left of a keyring without the deployment's CA."""

    names: tuple[str, ...]

    def verify(self, name: str, message: bytes, signature: bytes) -> bool:
        return keyring_of(self.names).verify(name, message, signature)


def haunted(keyring: Keyring) -> Network:
    """Of three peers the aggregator made up two, and plays them with keys of their own."""
    network = Network(make_ticket(3))
    ghostly = network.keyring
    network.keyring = keyring
    network.start()
    for index in GHOSTS:
        round_of(network, index)._keyring = ghostly
    for step in (network.exchange, network.ready):
        step()
    network.now = network.ticket.deadlines.ready / 1000
    network.pump()
    network.mask(network.ticket.cohort[VICTIM])
    return network


def test_made_up_neighbours_bare_the_victim_where_nobody_certifies_them() -> None:
    network = haunted(Gullible(peer_ids(3)))
    for index in GHOSTS:
        network.mask(network.ticket.cohort[index])
    loot, refusals = show(network, dict.fromkeys(range(3), (0, 1, 2)))
    assert not refusals
    for index in GHOSTS:
        loot.take_everything_of(index)
    assert loot.bares([VICTIM])


def test_made_up_neighbours_are_nobody() -> None:
    network = haunted(keyring_of([peer_ids(3)[VICTIM]]))
    refusals = [e.reason for p, e in network.errors if isinstance(e, RemoteError)]
    assert Reason.BAD_SIGNATURE in refusals
    assert network.ticket.cohort[VICTIM] not in network.uploads
    with pytest.raises(RemoteError) as error:
        round_of(network, VICTIM).masks_available(network.ticket.deadlines.upload / 1000)
    assert error.value.reason is Reason.TOO_FEW_COUNTING


def as_a_peer() -> SignedTicket:
    """The aggregator in the cohort, with its own key and certificate."""
    return sign(replace(make_ticket(3).ticket, cohort=(AGGREGATOR, *peer_ids(2))))


def test_the_aggregator_is_no_peer() -> None:
    with pytest.raises(RemoteError) as error:
        as_a_peer()
    assert error.value.reason is Reason.MALFORMED
    with removed(check(Ticket, "__post_init__", Reason.MALFORMED)):
        network = Network(as_a_peer()).until("upload")
    loot, refusals = show(network, dict.fromkeys(range(3), (0, 1, 2)))
    assert not refusals
    loot.take_everything_of(network.ticket.index(AGGREGATOR))
    assert loot.bares([1, 2])  # a sum of three that is one of two
