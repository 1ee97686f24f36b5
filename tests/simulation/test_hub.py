"""All virtual peers: who joins, who is lost in which round, and what a deployment would have sent."""

from __future__ import annotations

import pytest

from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.protocol.ticket import EVALUATE
from smpcfl.simulation import hub
from smpcfl.simulation.hub import Hub
from smpcfl.simulation.virtual_cohort import LOST_AT
from support.virtual import CONTENT, Simulated


def test_each_node_gets_one_peer_and_keeps_it() -> None:
    hub = Hub("seeded", b"")
    first = hub.join([30, 10])
    assert first == {10: "peer-00000", 30: "peer-00001"}
    assert hub.join([10, 20, 30]) == {**first, 20: "peer-00002"}


def test_a_node_that_never_joined_has_no_agent() -> None:
    with pytest.raises(RemoteError) as raised:
        Hub("seeded", b"").peer(4)
    assert raised.value.reason is Reason.NOT_IN_COHORT


def test_so_many_are_lost_and_others_in_each_round() -> None:
    hub = Hub("seeded", b"", lost=0.1)
    hub.join(range(100))
    lost = [hub.lost_in(1, number) for number in range(1, 30)]
    assert {len(found) for found in lost} == {10}
    assert len({frozenset(found) for found in lost}) == len(lost)
    assert {when for found in lost for when in found.values()} == set(LOST_AT)
    assert hub.lost_in(1, 3) == lost[2], "whatever is asked again"


def test_a_seed_chooses_who_is_lost() -> None:
    found = []
    for seed in (1, 1, 2):
        hub = Hub("seeded", b"", lost=0.3, seed=seed)
        hub.join(range(20))
        found.append(hub.lost_in(1, 1))
    assert found[0] == found[1] != found[2]


def test_the_sum_is_exact_with_a_tenth_lost_in_each_of_five_rounds() -> None:
    simulated = Simulated(30, lost=0.1)
    for number in range(1, 6):
        signed = simulated.ticket(round=number)
        total = simulated.finish(simulated.train(signed))
        assert total.tobytes() == simulated.true_sum(signed).tobytes()
        assert sum(simulated.hub.costs().lost.values()) == 3


def test_an_evaluation_loses_whom_its_training_lost() -> None:
    simulated = Simulated(20, lost=0.1)
    signed = simulated.ticket()
    simulated.finish(simulated.train(signed))
    trained, lost = set(simulated.survivors), set(simulated.errors)
    ticket = simulated.ticket(task=EVALUATE, body=0)
    total = simulated.finish(simulated.train(ticket))
    assert (set(simulated.survivors), set(simulated.errors)) == (trained, lost)
    assert total.tobytes() == simulated.true_sum(ticket).tobytes()


def test_costs_are_those_of_a_round_and_of_a_peer() -> None:
    simulated = Simulated(8)
    simulated.finish(simulated.train(simulated.ticket()))
    costs = simulated.hub.costs()
    assert costs.peers == 8
    # Announcement, header and agreement are signed once, by each; and seen by each of the seven others.
    assert costs.signed >= 3
    assert costs.verified >= 2 * 7
    assert 0 < costs.p2p_bytes <= costs.p2p_bytes_most
    assert simulated.hub.costs().peers == 0, "they begin anew"


def test_an_exchange_that_fails_does_not_take_the_next_one_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    simulated = Simulated(5)
    with monkeypatch.context() as patch:
        patch.setattr(hub, "VirtualCohort", lambda *given: {}["nothing"])
        with pytest.raises(KeyError):
            simulated.train(simulated.ticket(round=1))
    signed = simulated.ticket(round=2)
    total = simulated.finish(simulated.train(signed))
    assert total.tobytes() == simulated.true_sum(signed).tobytes()


def test_exchanges_take_place_before_their_clients_begin() -> None:
    simulated = Simulated(17, group_size=5)
    signed = [
        simulated.ticket(cohort=group.cohort, draw=group.draw, group=group.group)
        for group in simulated.hub.groups()
    ]
    for ticket in signed:
        simulated.hub.open(ticket)
    for ticket in reversed(signed):
        nodes = [n for n, name in simulated.names.items() if name in ticket.ticket.cohort]
        total = simulated.finish(simulated.train(ticket, nodes))
        assert total.tobytes() == simulated.true_sum(ticket).tobytes()


def test_a_client_with_another_app_or_model_is_refused() -> None:
    simulated = Simulated(5)
    signed = simulated.ticket()
    for model, content, reason in (
        (b"another", CONTENT, Reason.MODEL_MISMATCH),
        (signed.ticket.model_digest, b"another", Reason.CONFIG_MISMATCH),
    ):
        with pytest.raises(RemoteError) as raised:
            simulated.hub.begin(1, signed, model, content)
        assert raised.value.reason is reason


def test_a_ticket_that_nobody_signed_is_refused() -> None:
    simulated = Simulated(5)
    other = Simulated(5).ticket()
    with pytest.raises(RemoteError) as raised:
        simulated.hub.begin(1, other, other.ticket.model_digest, CONTENT)
    assert raised.value.reason is Reason.BAD_SIGNATURE
