"""The sum of partial sums is the sum of the quantised updates, bit for bit."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smpcfl.protocol.errors import Reason, RemoteError
from support.network import PHASES, Network, make_ticket, peer_ids


@st.composite
def rounds(draw: st.DrawFn) -> Network:
    n = draw(st.integers(3, 40))
    width = draw(st.sampled_from([16, 32, 64]))
    body = draw(st.integers(0, 33))
    signed = make_ticket(n, width=width, body=body)
    tolerated = signed.ticket.degree - signed.ticket.threshold
    lost = draw(
        st.dictionaries(st.sampled_from(peer_ids(n)), st.sampled_from(PHASES), max_size=tolerated)
    )
    return Network(signed, seed=draw(st.integers(0, 2**32)), lost=lost, cheap=True)


@settings(max_examples=100, deadline=None)
@given(rounds())
def test_sum_is_exact_for_any_dropout_within_the_threshold(network: Network) -> None:
    assert network.run() == network.expected()
    vanished_early = {p for p, phase in network.lost.items() if phase not in ("agree", "unmask")}
    assert set(network.survivors) == set(network.ticket.cohort) - vanished_early


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("count", [1, 2])
def test_eight_peers_survive_any_two(phase: str, count: int) -> None:
    lost = dict.fromkeys(peer_ids(8)[:count], phase)
    network = Network(make_ticket(8), lost=lost)
    assert network.run() == network.expected()


@pytest.mark.parametrize("phase", PHASES)
def test_three_of_eight_are_too_many(phase: str) -> None:
    network = Network(make_ticket(8), lost=dict.fromkeys(peer_ids(8)[2:5], phase))
    with pytest.raises(RemoteError) as error:
        network.run()
    assert error.value.reason in (Reason.TOO_FEW_SURVIVORS, Reason.TOO_FEW_ANSWERS)


@pytest.mark.parametrize("n", [3, 5, 8])
@pytest.mark.parametrize("width", [16, 32, 64])
def test_additive_sums_exactly(n: int, width: int) -> None:
    network = Network(make_ticket(n, mode="additive", width=width))
    assert network.run() == network.expected()
    assert len(network.survivors) == n


@pytest.mark.parametrize("phase", ["ticket", "exchange", "train", "upload"])
def test_additive_is_void_with_a_lost_peer(phase: str) -> None:
    network = Network(make_ticket(5, mode="additive"), lost={peer_ids(5)[3]: phase})
    with pytest.raises(RemoteError) as error:
        network.run()
    assert error.value.reason is Reason.TOO_FEW_SURVIVORS
