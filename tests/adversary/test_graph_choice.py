"""Who a peer's neighbours are, chosen by the aggregator: small degrees, ground graphs, made-up peers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import pytest

from smpcfl.protocol import graph
from smpcfl.protocol.encoding import digest
from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.signing import AGGREGATOR, Keyring
from smpcfl.protocol.ticket import Admission, Policy, SignedTicket, Ticket
from support.attacker import Loot, show
from support.forge import round_of
from support.network import (
    Network,
    keyring_of,
    make_ticket,
    peer_ids,
    sign,
)
from support.unchecked import check, removed

# Peers that follow k-regular graphs at all, from 21 peers on; the bundled ones do from 257 on.
POLICY = Policy(min_degree=5, max_complete=20)
N = 24
COLLUDERS = frozenset((3, 8, 13, 17, 21))
VICTIM = 0


def admitted(signed: SignedTicket, policy: Policy) -> bool:
    """By the victim."""
    ticket = signed.ticket
    admission = Admission(ticket.cohort[VICTIM], policy, keyring_of(ticket.cohort))
    now_ms = ticket.serial
    return admission.check(signed, highest_serial=0, running=None, now_ms=now_ms)


def refusal(signed: SignedTicket, policy: Policy = POLICY) -> Reason:
    with pytest.raises(RemoteError) as error:
        admitted(signed, policy)
    return error.value.reason


def surrounded(ticket: Ticket) -> bool:
    """Whether colluders hold t shares of each of the victim's secrets."""
    return len(COLLUDERS & set(ticket.neighbours[VICTIM])) >= ticket.threshold


def plunder(signed: SignedTicket) -> Loot:
    """An honest round; afterwards the colluders hand over what they hold."""
    network = Network(signed, policy=POLICY).until("upload")
    loot = Loot(network)
    for index in COLLUDERS:
        loot.take_everything_of(index)
    return loot


def first_surrounding(tickets: Sequence[Ticket]) -> SignedTicket | None:
    return next((sign(ticket) for ticket in tickets if surrounded(ticket)), None)


# -- ground nonces, and ground graphs -------------------------------------------------------------------


def with_nonces() -> list[Ticket]:
    ticket = make_ticket(N, degree=5).ticket
    return [replace(ticket, nonce=digest("ground", number)) for number in range(600)]


def with_graph_signatures() -> list[Ticket]:
    ticket = make_ticket(N, degree=5).ticket
    return [replace(ticket, graph_signature=digest("ground", n) * 2) for n in range(600)]


@cached_property
def from_the_nonce(ticket: Ticket) -> list[tuple[int, ...]]:
    """A graph from what the aggregator draws by itself."""
    return graph.neighbours(len(ticket.cohort), ticket.degree, digest("graph seed", ticket.nonce))


from_the_nonce.__set_name__(Ticket, "neighbours")


def test_a_ground_nonce_surrounds_the_victim_where_the_graph_is_the_nonces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Ticket, "neighbours", from_the_nonce)
    found = first_surrounding(with_nonces())
    assert found is not None
    assert admitted(found, POLICY)
    assert plunder(found).bares([VICTIM])


def test_a_ground_nonce_changes_no_neighbour() -> None:
    tickets = with_nonces()
    assert len({ticket.digest for ticket in tickets}) == len(tickets)
    assert all(ticket.neighbours == tickets[0].neighbours for ticket in tickets)
    assert first_surrounding(tickets) is None
    assert plunder(sign(tickets[0])).sum_of([VICTIM]) is None


def test_a_ground_graph_surrounds_the_victim_where_nobody_asks_who_seeded_it() -> None:
    found = first_surrounding(with_graph_signatures())
    assert found is not None
    assert refusal(found) is Reason.BAD_SIGNATURE
    with removed(check(Admission, "check", Reason.BAD_SIGNATURE)):
        assert admitted(found, POLICY)
    assert plunder(found).bares([VICTIM])


# -- a degree chosen against a peer ---------------------------------------------------------------------


def sparse() -> SignedTicket:
    """The registry seeds a graph for each round, so the aggregator waits for the one that suits it."""
    tickets = [make_ticket(N, degree=2, serial=serial).ticket for serial in range(1, 200)]
    found = first_surrounding(tickets)
    assert found is not None
    return found


def test_a_small_degree_surrounds_the_victim_where_it_is_followed() -> None:
    signed = sparse()
    assert refusal(signed) is Reason.POLICY_DEGREE
    with removed(check(Policy, "check", Reason.POLICY_DEGREE)):
        assert admitted(signed, POLICY)
    assert plunder(signed).bares([VICTIM])


@pytest.mark.parametrize("policy", [Policy(), Policy(max_complete=N), Policy(max_complete=20)])
def test_a_regular_graph_is_refused_where_the_complete_one_is_due(policy: Policy) -> None:
    # By default up to 256 peers, and with fewer than twenty neighbours beyond that.
    assert refusal(make_ticket(N, degree=6), policy) is Reason.POLICY_DEGREE


def test_no_graph_has_an_odd_number_of_ends() -> None:
    """Harary's construction would give one peer a neighbour more, and another threshold than all have."""
    with pytest.raises(RemoteError) as error:
        make_ticket(N + 1, degree=5)
    assert error.value.reason is Reason.MALFORMED
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "check_degree", lambda size, degree: None)
        odd = make_ticket(N + 1, degree=5)
        assert admitted(odd, POLICY)
        degrees = [len(found) for found in odd.ticket.neighbours]
    assert max(degrees) == 6
    # Two thirds of six are four: the threshold of this ticket is not above that for everyone.
    assert 3 * odd.ticket.threshold <= 2 * max(degrees)


# -- made-up neighbours ---------------------------------------------------------------------------------

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
