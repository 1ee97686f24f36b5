"""A learning rate at which training fails on all but one peer: the sum is then that peer's update."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from smpcfl.protocol import failures, trailer
from smpcfl.protocol.errors import LocalError, Reason
from smpcfl.protocol.keystream import Secret
from smpcfl.protocol.messages import header_bytes
from smpcfl.protocol.peer_round import PeerRound
from smpcfl.protocol.quantise import encode_failure, encode_update
from smpcfl.protocol.ring import RingVector
from support.attacker import Loot, show
from support.network import Network, make_ticket, peer_ids
from support.unchecked import check, removed
from support.weakened import one_is

PEERS, INPUTS, STEPS = 8, 6, 400
EVERYONE = tuple(range(PEERS))
NAMES = peer_ids(PEERS)
COUNTED = check(PeerRound, "answer", "check_contributors")
Found = tuple[Loot, list[Reason]]


class Federation:
    """Eight honest peers that fit a line by gradient descent, each to data of its own scale."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        scales = rng.lognormal(0.0, 0.3, PEERS)
        self.data = [
            (
                (scale * rng.normal(size=(50, INPUTS))).astype(np.float32),
                rng.normal(size=50).astype(np.float32),
            )
            for scale in scales
        ]

    def trained(self, peer: int, rate: float) -> npt.NDArray[np.float32]:
        x, y = self.data[peer]
        model = np.zeros(INPUTS, np.float32)
        with np.errstate(all="ignore"):
            for _ in range(STEPS):
                model = model - np.float32(rate) * (x.T @ (x @ model - y)) / len(y)
        return model

    def offered(self, number: int, rate: float) -> Network:
        """The round of a ticket with this rate, up to its uploads."""
        signed = make_ticket(
            PEERS, body=INPUTS, serial=number, model_digest=bytes([number]) * 32, clip=4.0
        )
        net = Network(signed, seed=number)
        for peer, name in enumerate(net.ticket.cohort):
            try:
                net.addends[name] = encode_update(
                    net.ticket.quantiser,
                    {"w": np.zeros(INPUTS, np.float32)},
                    {"w": self.trained(peer, rate)},
                    examples=50,
                    rounding=Secret(np.random.default_rng((number, peer)).bytes(32)),
                )
            except LocalError:  # NaN: it diverged
                net.failing.add(name)
                net.addends[name] = encode_failure(net.ticket.layout, PEERS)
        return net.until("upload")


def contributors(total: RingVector) -> int:
    return trailer.decode(total.wide[-trailer.LENGTH :], PEERS).contributors


def searched(federation: Federation) -> tuple[list[int], Network | None, Found]:
    """Halves the range of rates until one peer is left: how many contributed to each sum, and the last round.

    Where there is no sum, too few were left, and the rate has to be lower.
    """
    low, high, seen = 1e-3, 1e3, []
    for number in range(1, 31):
        rate = float(np.sqrt(low * high))
        net = federation.offered(number, rate)
        found = show(net, dict.fromkeys(EVERYONE, EVERYONE))
        total = found[0].sum_of(EVERYONE)
        # All fail: the trailer of that sum is amiss, which says so.
        left = 0 if total is None or len(net.failing) == PEERS else contributors(total)
        if total is not None:
            seen.append(left)
        if left == 1:
            return seen, net, found
        low, high = (rate, high) if left > 1 else (low, rate)
    return seen, None, found


def victim_of(net: Network) -> str:
    (name,) = set(NAMES) - net.failing
    return name


def test_a_rate_at_which_all_but_one_diverge_gives_that_one_where_nobody_counts() -> None:
    with removed(COUNTED):
        seen, net, (loot, refusals) = searched(Federation(1))
    assert net is not None
    assert not refusals
    total, own = loot.sum_of(EVERYONE), net.addends[victim_of(net)]
    assert total is not None
    assert (total.body == own.body).all()
    assert own.body.any()
    assert len(seen) < 30


def one_left(kind: Any = PeerRound) -> tuple[Network, Found]:
    """The round at the rate that the search finds, once more, with peers of another kind."""
    with removed(COUNTED):
        _, net, _ = searched(Federation(1))
    assert net is not None
    again = Network(net.signed, seed=net.seed, failing=net.failing, round_class=kind)
    again.addends = net.addends
    again.until("upload")
    return again, show(again, dict.fromkeys(EVERYONE, EVERYONE))


def test_below_the_floor_of_contributors_nobody_answers() -> None:
    seen, net, _ = searched(Federation(1))
    assert net is None
    assert min(seen) >= make_ticket(PEERS).ticket.min_survivors == 6
    _, (loot, refusals) = one_left()
    # Each says so when it is asked, and once more at the deadline.
    assert set(refusals) == {Reason.TOO_FEW_CONTRIBUTORS}
    assert len(refusals) >= PEERS
    assert not loot.shares


COLLUDER = 4


class FakesTheCount(PeerRound):
    """Says in its header that five failures fewer happened than did; its own upload is a zero."""

    def masks(self, now: float, *, failed: bool = False) -> Any:
        masks, true = super().masks(now, failed=failed)
        hidden = (true.masked_failure - 5) % failures.PRIME
        signed = header_bytes(
            true.ticket_digest, self.me, true.announcement_hash, true.counting, hidden
        )
        self.header = replace(true, signature=self._signer(signed), masked_failure=hidden)
        return masks, self.header


def test_a_colluding_survivor_can_fake_the_count() -> None:
    """Not defended, and the threat model says so: nobody can tell who shifted a sum of secrets."""
    net, (loot, refusals) = one_left(one_is(NAMES[COLLUDER], FakesTheCount))
    assert NAMES[COLLUDER] in net.failing
    assert not refusals
    total, own = loot.sum_of(EVERYONE), net.addends[victim_of(net)]
    assert total is not None
    assert (total.body == own.body).all()
