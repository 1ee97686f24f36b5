"""Virtual peers cut into groups, as the registry cuts a deployment: each follows its own group alone."""

from __future__ import annotations

import pytest

from smpcfl.protocol.errors import Reason, RemoteError
from smpcfl.simulation.hub import Hub
from support.virtual import CONTENT, Simulated


def test_there_are_groups_from_twice_the_size_on() -> None:
    hub = Hub("seeded", b"", group_size=5)
    hub.join(range(9))
    assert hub.groups() == ()
    hub.join(range(10))
    groups = hub.groups()
    assert [len(group.members) for group in groups] == [5, 5]
    assert hub.groups() is groups, "it is drawn once"


def test_who_comes_later_is_in_the_next_draw() -> None:
    hub = Hub("seeded", b"", group_size=5)
    hub.join(range(10))
    first = hub.groups()[0].draw
    hub.join(range(12))
    second = hub.groups()
    assert second[0].draw > first
    assert sum(len(group.members) for group in second) == 12


def test_each_group_has_its_own_exact_sum() -> None:
    simulated = Simulated(23, lost=0.1, group_size=5)
    nodes = {name: node for node, name in simulated.names.items()}
    groups = simulated.hub.groups()
    assert len(groups) == 4
    tickets = [simulated.ticket(cohort=g.cohort, draw=g.draw, group=g.group) for g in groups]
    # All groups upload before the first one is unmasked, as in the simulation engine.
    states = []
    for signed in tickets:
        mine = [nodes[name] for name in signed.ticket.cohort]
        states.append((signed, simulated.train(signed, mine), dict(simulated.addends)))
    complete = 0
    for signed, state, addends in states:
        simulated.addends = addends
        try:
            total = simulated.finish(state)
        except RemoteError:
            continue  # more were lost than a group of five tolerates
        assert total.tobytes() == simulated.true_sum(signed).tobytes()
        complete += 1
    assert complete >= 2


def test_a_peer_follows_no_other_cohort_than_its_group() -> None:
    simulated = Simulated(20, group_size=5)
    groups = simulated.hub.groups()
    one, other = groups[0], groups[1]
    mixed = tuple(sorted((*one.cohort[:3], *other.cohort[:2])))
    nodes = {name: node for node, name in simulated.names.items()}
    for cohort, draw, group, reason in (
        (mixed, one.draw, 1, Reason.NOT_THE_GROUP),
        (one.cohort, 0, 0, Reason.NO_DRAW),
        (one.cohort, one.draw + 1, 1, Reason.UNKNOWN_DRAW),
    ):
        signed = simulated.ticket(cohort=cohort, draw=draw, group=group)
        with pytest.raises(RemoteError) as raised:
            simulated.hub.begin(nodes[cohort[0]], signed, signed.ticket.model_digest, CONTENT)
        assert raised.value.reason is reason
