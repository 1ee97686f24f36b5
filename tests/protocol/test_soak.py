"""Five hundred rounds with lost peers leave nothing behind: no secret, no round, no memory."""

from __future__ import annotations

import contextlib
import gc
import random
import sys
import weakref

import pytest

from smpcfl.protocol.errors import RemoteError
from smpcfl.protocol.keystream import Secret
from smpcfl.protocol.ticket import ADDITIVE, SEEDED
from support.network import PHASES, Network, Round, make_ticket, peer_ids

ROUNDS = 500
WARM = 100
PEERS = peer_ids(6)


class Living:
    """How many secrets there are in the process."""

    count = 0


@pytest.fixture
def living(monkeypatch: pytest.MonkeyPatch) -> type[Living]:
    gc.collect()
    Living.count = 0

    def new(cls: type[Secret], value: bytes) -> Secret:
        Living.count += 1
        return bytes.__new__(cls, value)

    def gone(self: Secret) -> None:
        Living.count -= 1

    monkeypatch.setattr(Secret, "__new__", new, raising=False)
    monkeypatch.setattr(Secret, "__del__", gone, raising=False)
    return Living


def network_of(serial: int) -> Network:
    """One round with up to two of six lost: one more than it tolerates."""
    rng = random.Random(serial)
    lost = {peer: rng.choice(PHASES) for peer in rng.sample(PEERS, serial % 3)}
    mode = ADDITIVE if serial % 10 == 0 else SEEDED
    signed = make_ticket(len(PEERS), body=3, serial=serial, mode=mode)
    return Network(signed, seed=serial, lost=lost, cheap=True)


def closed(serial: int) -> tuple[list[Round], str]:
    """The rounds of one ticket, closed by a newer ticket or by the deadline, and what came of it."""
    network, outcome = network_of(serial), "complete"
    try:
        assert network.run() == network.expected()
    except RemoteError as error:
        outcome = error.reason.value
    rounds = list(network.rounds.values())
    for round_ in rounds:
        if serial % 2:
            round_.close()
        else:
            round_.calls(network.ticket.deadlines.unmask / 1000)
    return rounds, outcome


def test_nothing_grows_over_500_rounds(living: type[Living]) -> None:
    ever: weakref.WeakSet[Round] = weakref.WeakSet()
    outcomes: dict[str, int] = {}
    before = (0, 0)
    for serial in range(1, ROUNDS + 1):
        rounds, outcome = closed(serial)
        # Not collected, not even let go of: closed is enough.
        assert living.count == 0, f"secrets of round {serial} are alive"
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        ever.update(rounds)
        del rounds
        if serial in (WARM, ROUNDS):
            gc.collect()
            assert not ever
            now = (len(gc.get_objects()), sys.getallocatedblocks())
            if serial == ROUNDS:
                print(f"{outcomes}; objects, blocks: {before} after {WARM}, {now} after {ROUNDS}")
                # Less than one object, and one block, for each round.
                assert now[0] - before[0] < ROUNDS - WARM
                assert now[1] - before[1] < ROUNDS - WARM
            before = now
    assert outcomes["complete"] > ROUNDS / 2
    assert len(outcomes) > 1


def test_an_open_round_is_what_this_counts(living: type[Living]) -> None:
    network = network_of(1).until("ready")
    assert living.count > len(PEERS) ** 2
    for peer in PEERS[1:]:
        network.rounds[peer].close()
    assert 0 < living.count <= 4 * len(PEERS)
    network.rounds[PEERS[0]].close()
    assert living.count == 0


def test_a_newer_ticket_leaves_the_secrets_of_one_round_alone(living: type[Living]) -> None:
    """As agents hold them: the round that is open, and never two."""
    open_: dict[str, Round] = {}
    most = 0
    for serial in range(1, 31):
        network = network_of(serial)
        for round_ in open_.values():
            round_.close()
        assert living.count == 0
        with contextlib.suppress(RemoteError):
            network.run()
        del network.aggregator
        open_ = dict(network.rounds)
        most = max(most, living.count)
    assert 0 < most < 200
